// Copies, streams, events, captures, graphs and launches.
#include <cstring>

#include "execute.h"
#include "machine.h"

using namespace cuda_on_host;

namespace {

std::set<CudaOnHostStream*>& all_streams() {
    static auto* const streams = new std::set<CudaOnHostStream*>;
    return *streams;
}

bool busy_elsewhere(cudaStream_t stream) {
    return stream->away != std::thread::id{} && stream->away != std::this_thread::get_id();
}

// Runs what waits in a stream, until the mark is done or nothing is left.
void drain(cudaStream_t stream, const CudaOnHostMark* until = nullptr) {
    while (busy_elsewhere(stream)) machine().lock.without([] { std::this_thread::yield(); });
    while (!stream->waiting.empty() && (until == nullptr || !until->done)) {
        const std::function<void()> work = std::move(stream->waiting.front());
        stream->waiting.pop_front();
        work();
    }
}

// Runs what waits before the mark, unless its stream is gone, which has drained it.
void finish(const CudaOnHostMark& mark) {
    if (!mark.done) drain(mark.stream, &mark);
}

cudaError_t run(cudaStream_t stream, cudaGraphNodeType type, std::function<void()> work) {
    if (stream == cudaStreamPerThread || (stream->capture == nullptr && !machine().late)) {
        work();
        return cudaSuccess;
    }
    if (stream->capture == nullptr) {
        stream->waiting.push_back(std::move(work));
        return cudaSuccess;
    }
    if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    if (!stream->origin) stream->capture->apart.insert(stream);
    stream->capture->nodes.push_back({type, std::move(work)});
    return cudaSuccess;
}

void leave_capture(CudaOnHostGraph* graph) {
    for (CudaOnHostStream* const stream : all_streams()) {
        if (stream->capture == graph) stream->capture = nullptr;
    }
}

}  // namespace

void cuda_on_host::drain_all() {
    // Other threads come and go with theirs while a library's work runs.
    const std::vector<CudaOnHostStream*> now(all_streams().begin(), all_streams().end());
    for (CudaOnHostStream* const stream : now) {
        if (all_streams().count(stream) != 0 && !busy_elsewhere(stream)) drain(stream);
    }
}

void cuda_on_host_finish(std::uintptr_t stream) {
    const std::lock_guard<Lock> held(machine().lock);
    drain(reinterpret_cast<cudaStream_t>(stream));
}

int cuda_on_host_call(std::uintptr_t stream, void (*work)()) {
    const std::lock_guard<Lock> held(machine().lock);
    auto* const there = reinterpret_cast<cudaStream_t>(stream);
    if (there->capture == nullptr) return 0;
    run(there, cudaGraphNodeTypeHost, [there, work] {
        there->away = std::this_thread::get_id();
        machine().lock.without(work);
        there->away = {};
    });
    return 1;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    BEGIN(begin_on_device("cudaMemcpyAsync"));
    if ((kind != cudaMemcpyDeviceToHost) != on_a_device(target, bytes) ||
        (kind != cudaMemcpyHostToDevice) != on_a_device(source, bytes)) {
        return keep(cudaErrorInvalidValue);
    }
    // Pageable memory is read when the call is made, and written before it returns.
    const bool at_once = stream != cudaStreamPerThread && stream->capture == nullptr;
    if (at_once && kind == cudaMemcpyHostToDevice && !within(source, bytes, kHost)) {
        const auto* const first = static_cast<const char*>(source);
        const auto read = std::make_shared<std::vector<char>>(first, first + bytes);
        return keep(run(stream, cudaGraphNodeTypeMemcpy, [=] { std::memcpy(target, read->data(), bytes); }));
    }
    if (at_once && kind == cudaMemcpyDeviceToHost && !within(target, bytes, kHost)) {
        drain(stream);
        std::memcpy(target, source, bytes);
        return cudaSuccess;
    }
    return keep(run(stream, cudaGraphNodeTypeMemcpy, [=] { std::memcpy(target, source, bytes); }));
}

cudaError_t cudaMemcpyPeerAsync(void* target, int target_device, const void* source, int source_device,
                                std::size_t bytes, cudaStream_t stream) {
    BEGIN(begin_on_device("cudaMemcpyPeerAsync"));
    if (!within(target, bytes, target_device) || !within(source, bytes, source_device)) {
        return keep(cudaErrorInvalidValue);
    }
    return keep(run(stream, cudaGraphNodeTypeMemcpy, [=] { std::memcpy(target, source, bytes); }));
}

cudaError_t cudaMemsetAsync(void* target, int value, std::size_t bytes, cudaStream_t stream) {
    BEGIN(begin_on_device("cudaMemsetAsync"));
    if (!on_a_device(target, bytes)) return keep(cudaErrorInvalidValue);
    return keep(run(stream, cudaGraphNodeTypeMemset, [=] { std::memset(target, value, bytes); }));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    BEGIN(begin_on_device("cudaStreamCreateWithFlags"));
    *stream = new CudaOnHostStream{current_device, {}, nullptr, false, {}};
    all_streams().insert(*stream);
    ++machine().handles;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    BEGIN(begin("cudaStreamDestroy", false));
    if (stream->capture != nullptr) return keep(cudaErrorStreamCaptureUnsupported);
    drain(stream);
    all_streams().erase(stream);
    --machine().handles;
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    BEGIN(begin("cudaStreamSynchronize"));
    if (stream == cudaStreamPerThread) return cudaSuccess;
    if (stream->capture == nullptr) {
        drain(stream);
        return cudaSuccess;
    }
    stream->capture->invalid = true;
    return keep(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    BEGIN(begin("cudaStreamWaitEvent"));
    if (event->capture == nullptr) {
        if (event->mark == nullptr) return cudaSuccess;
        if (stream->capture == nullptr) {
            return run(stream, cudaGraphNodeTypeMemcpy, [mark = event->mark] { finish(*mark); });
        }
        stream->capture->invalid = true;
        return keep(cudaErrorStreamCaptureIsolation);
    }
    if (stream->capture == nullptr) {
        stream->capture = event->capture;
        stream->capture->apart.insert(stream);
        return cudaSuccess;
    }
    if (stream->capture != event->capture) return keep(cudaErrorStreamCaptureIsolation);
    stream->capture->apart.erase(event->stream);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    BEGIN(begin("cudaStreamBeginCapture"));
    if (stream->capture != nullptr) return keep(cudaErrorInvalidValue);
    stream->capture = new CudaOnHostGraph;
    stream->capture->thread = std::this_thread::get_id();
    stream->origin = true;
    machine().captures.insert(stream->capture);
    ++machine().handles;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    BEGIN(begin("cudaStreamEndCapture"));
    CudaOnHostGraph* const captured = stream->capture;
    if (captured == nullptr || !stream->origin) return keep(cudaErrorInvalidValue);
    if (captured->thread != std::this_thread::get_id()) return keep(cudaErrorStreamCaptureWrongThread);
    const cudaError_t code = captured->invalid         ? cudaErrorStreamCaptureInvalidated
                             : !captured->apart.empty() ? cudaErrorStreamCaptureUnjoined
                                                        : cudaSuccess;
    stream->origin = false;
    leave_capture(captured);
    machine().captures.erase(captured);
    *graph = captured;
    if (code == cudaSuccess) return cudaSuccess;
    *graph = nullptr;
    --machine().handles;
    delete captured;
    return keep(code);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
    std::swap(*mode, capture_mode);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    BEGIN(begin("cudaStreamIsCapturing"));
    *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    BEGIN(begin_on_device("cudaEventCreate"));
    *event = new CudaOnHostEvent{};
    (*event)->device = current_device;
    ++machine().handles;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    BEGIN(begin("cudaEventDestroy", false));
    --machine().handles;
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    BEGIN(begin("cudaEventRecordWithFlags"));
    if (event->device != stream->device) return keep(cudaErrorInvalidResourceHandle);
    if (stream->capture != nullptr && flags == cudaEventRecordExternal) {
        event->mark = std::make_shared<CudaOnHostMark>(CudaOnHostMark{stream});
        return run(stream, cudaGraphNodeTypeEventRecord, [mark = event->mark] {
            mark->done = true;
            mark->time = std::chrono::steady_clock::now();
        });
    }
    event->capture = stream->capture;
    event->stream = stream;
    event->mark = std::make_shared<CudaOnHostMark>(CudaOnHostMark{stream});
    if (stream->capture != nullptr) return cudaSuccess;
    return run(stream, cudaGraphNodeTypeMemcpy, [mark = event->mark] {
        mark->done = true;
        mark->time = std::chrono::steady_clock::now();
    });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    BEGIN(begin("cudaEventQuery"));
    if (event->capture != nullptr) return keep(cudaErrorCapturedEvent);
    if (event->mark == nullptr || event->mark->done) return cudaSuccess;
    if (!busy_elsewhere(event->mark->stream)) finish(*event->mark);  // for the next time that this is asked
    return cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    BEGIN(begin("cudaEventSynchronize"));
    if (event->capture != nullptr) return keep(cudaErrorCapturedEvent);
    if (event->mark != nullptr) finish(*event->mark);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    BEGIN(begin("cudaEventElapsedTime"));
    if (start->device != end->device || start->capture != nullptr || end->capture != nullptr) {
        return keep(cudaErrorInvalidResourceHandle);
    }
    if (start->mark == nullptr || end->mark == nullptr) return keep(cudaErrorInvalidResourceHandle);
    if (!start->mark->done || !end->mark->done) return keep(cudaErrorNotReady);
    *milliseconds = std::chrono::duration<float, std::milli>(end->mark->time - start->mark->time).count();
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
    BEGIN(begin("cudaGraphGetNodes"));
    if (nodes == nullptr) {
        *count = graph->nodes.size();
        return cudaSuccess;
    }
    for (std::size_t i = 0; i < *count; ++i) nodes[i] = &graph->nodes[i];
    return cudaSuccess;
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
    BEGIN(begin("cudaGraphNodeGetType"));
    *type = node->type;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
    BEGIN(begin_on_device("cudaGraphInstantiateWithFlags"));
    *exec = new CudaOnHostExec{graph->nodes, current_device};
    ++machine().handles;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
    BEGIN(begin_on_device("cudaGraphUpload"));
    if (stream->capture != nullptr || stream->device != exec->device) return keep(cudaErrorInvalidValue);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    BEGIN(begin_on_device("cudaGraphLaunch"));
    for (const CudaOnHostNode& node : exec->nodes) {
        if (const cudaError_t code = run(stream, node.type, node.work); code != cudaSuccess) return keep(code);
    }
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    BEGIN(begin("cudaGraphDestroy", false));
    --machine().handles;
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    BEGIN(begin("cudaGraphExecDestroy", false));
    --machine().handles;
    delete exec;
    return cudaSuccess;
}

namespace cuda_on_host {
namespace {

cudaError_t launch(cudaStream_t stream, Launch&& work) {
    {
        BEGIN(begin_on_device("cudaLaunchKernel"));
        if (refusal(work) != nullptr) return cudaErrorInvalidConfiguration;
        if (stream->device != current_device) return cudaErrorInvalidResourceHandle;
        if (stream->capture != nullptr || machine().late) {
            return run(stream, cudaGraphNodeTypeKernel, [work = std::move(work)] { execute(work); });
        }
    }
    // Unlocked: kernels of several threads run at once, as they do on a GPU.
    execute(work);
    return cudaSuccess;
}

}  // namespace

void submit(cudaStream_t stream, Launch work) { keep(launch(stream, std::move(work))); }

}  // namespace cuda_on_host
