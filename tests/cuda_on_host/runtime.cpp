#include "runtime.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "execute.h"

struct CudaOnHostNode {
    cudaGraphNodeType type;
    std::function<void()> work;
};

struct CudaOnHostGraph {
    std::vector<CudaOnHostNode> nodes;
    std::thread::id thread;
    bool invalid = false;
    std::set<CudaOnHostStream*> apart;  // streams that joined the capture, with work that has not come back
};

// Where in a stream an event was recorded.
struct Mark {
    CudaOnHostStream* stream;
    bool done = false;
    std::chrono::steady_clock::time_point time{};
};

struct CudaOnHostStream {
    int device;
    std::deque<std::function<void()>> waiting;  // what was put and has not run
    CudaOnHostGraph* capture = nullptr;
    bool origin = false;
};

struct CudaOnHostEvent {
    int device;
    std::shared_ptr<Mark> mark;
    CudaOnHostGraph* capture = nullptr;   // the capture that it was recorded in
    CudaOnHostStream* stream = nullptr;
};

struct CudaOnHostExec {
    std::vector<CudaOnHostNode> nodes;
};

namespace {

constexpr std::size_t kMemory = std::size_t{1} << 30;   // of each GPU
constexpr std::size_t kContext = std::size_t{1} << 24;  // that a context takes of it
constexpr int kDriver = 13000;
constexpr int kHost = -1;

struct Block {
    std::size_t bytes;
    int device;  // or kHost
};

struct Machine {
    std::recursive_mutex lock;
    int devices = 2;
    int driver = kDriver;
    bool late = std::getenv("CUDA_ON_HOST_LATE") != nullptr;
    std::set<int> contexts;
    std::map<const char*, Block> blocks;
    std::map<CudaOnHostGraph*, std::thread::id> captures;
    int handles = 0;
    std::string fail;
    int fail_after = 0;
    cudaError_t fail_code = cudaSuccess;
};

// Never destroyed: tensors may be freed while the process ends.
Machine& machine() {
    static Machine* const made = [] {
        auto* fresh = new Machine;
        if (const char* devices = std::getenv("CUDA_ON_HOST_DEVICES")) fresh->devices = std::atoi(devices);
        return fresh;
    }();
    return *made;
}

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeThreadLocal;

cudaError_t keep(cudaError_t code) {
    if (code != cudaSuccess && code != cudaErrorNotReady) last_error = code;
    return code;
}

cudaError_t driver_state() {
    if (machine().driver < kDriver) return cudaErrorInsufficientDriver;
    return machine().devices > 0 ? cudaSuccess : cudaErrorNoDevice;
}

// What every call begins with: the failure that a test has asked for, and whether there is a driver.
cudaError_t begin(const char* function, bool needs_driver = true) {
    Machine& all = machine();
    if (all.fail == function && --all.fail_after == 0) {
        all.fail.clear();
        return all.fail_code;
    }
    return needs_driver ? driver_state() : cudaSuccess;
}

cudaError_t begin_on_device(const char* function) {
    const cudaError_t code = begin(function);
    if (code == cudaSuccess) machine().contexts.insert(current_device);
    return code;
}

#define BEGIN(function)                                          \
    const std::lock_guard<std::recursive_mutex> held(machine().lock); \
    if (const cudaError_t begun = function; begun != cudaSuccess) return keep(begun)

// A call that a capture of this thread forbids, and which breaks it.
bool breaks_capture() {
    if (capture_mode == cudaStreamCaptureModeRelaxed) return false;
    bool broken = false;
    for (const auto& [graph, thread] : machine().captures) {
        if (thread == std::this_thread::get_id()) graph->invalid = broken = true;
    }
    return broken;
}

bool within(const void* memory, std::size_t bytes, int device) {
    const auto* const first = static_cast<const char*>(memory);
    auto after = machine().blocks.upper_bound(first);
    if (after == machine().blocks.begin()) return false;
    const auto& [base, block] = *--after;
    return block.device == device && first + bytes <= base + block.bytes;
}

bool on_a_device(const void* memory, std::size_t bytes) {
    for (int device = 0; device < machine().devices; ++device) {
        if (within(memory, bytes, device)) return true;
    }
    return false;
}

std::size_t used(int device) {
    std::size_t bytes = machine().contexts.count(device) ? kContext : 0;
    for (const auto& [base, block] : machine().blocks) bytes += block.device == device ? block.bytes : 0;
    return bytes;
}

cudaError_t allocate(void** memory, std::size_t bytes, int device) {
    if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
    if (device != kHost && used(device) + bytes > kMemory) return cudaErrorMemoryAllocation;
    void* const base = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (base == nullptr) return cudaErrorMemoryAllocation;
    std::memset(base, 0xA5, bytes);
    machine().blocks[static_cast<char*>(base)] = {bytes, device};
    *memory = base;
    return cudaSuccess;
}

void drain_all();

cudaError_t release(void* memory, bool host) {
    if (memory == nullptr) return cudaSuccess;
    if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
    drain_all();
    const auto found = machine().blocks.find(static_cast<char*>(memory));
    if (found == machine().blocks.end() || (found->second.device == kHost) != host) return cudaErrorInvalidValue;
    machine().blocks.erase(found);
    std::free(memory);
    return cudaSuccess;
}

std::set<CudaOnHostStream*>& all_streams() {
    static auto* const streams = new std::set<CudaOnHostStream*>;
    return *streams;
}

// Runs what waits in a stream, until the mark is done or nothing is left.
void drain(cudaStream_t stream, const Mark* until = nullptr) {
    while (!stream->waiting.empty() && (until == nullptr || !until->done)) {
        const std::function<void()> work = std::move(stream->waiting.front());
        stream->waiting.pop_front();
        work();
    }
}

// Runs what waits before the mark, unless its stream is gone, which has drained it.
void finish(const Mark& mark) {
    if (!mark.done) drain(mark.stream, &mark);
}

void drain_all() {
    for (CudaOnHostStream* const stream : all_streams()) drain(stream);
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

void leave_capture(CudaOnHostGraph* graph, const std::set<CudaOnHostStream*>& streams) {
    for (CudaOnHostStream* const stream : streams) {
        if (stream->capture == graph) stream->capture = nullptr;
    }
}

}  // namespace

const char* cudaGetErrorName(cudaError_t code) {
    switch (code) {
#define NAME(name) \
    case name: return #name;
        NAME(cudaSuccess) NAME(cudaErrorInvalidValue) NAME(cudaErrorMemoryAllocation) NAME(cudaErrorCudartUnloading)
        NAME(cudaErrorInvalidConfiguration) NAME(cudaErrorStubLibrary) NAME(cudaErrorInsufficientDriver)
        NAME(cudaErrorDevicesUnavailable) NAME(cudaErrorNoDevice) NAME(cudaErrorInvalidDevice)
        NAME(cudaErrorNoKernelImageForDevice) NAME(cudaErrorECCUncorrectable) NAME(cudaErrorUnsupportedPtxVersion)
        NAME(cudaErrorInvalidResourceHandle) NAME(cudaErrorNotReady) NAME(cudaErrorIllegalAddress)
        NAME(cudaErrorLaunchTimeout) NAME(cudaErrorLaunchFailure) NAME(cudaErrorSystemNotReady)
        NAME(cudaErrorSystemDriverMismatch) NAME(cudaErrorStreamCaptureUnsupported)
        NAME(cudaErrorStreamCaptureInvalidated) NAME(cudaErrorStreamCaptureUnjoined)
        NAME(cudaErrorStreamCaptureIsolation) NAME(cudaErrorCapturedEvent) NAME(cudaErrorStreamCaptureWrongThread)
        NAME(cudaErrorUnknown)
#undef NAME
    }
    return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t code) { return code == cudaSuccess ? "no error" : "CUDA on the host refuses"; }

cudaError_t cudaGetLastError() {
    const cudaError_t code = last_error;
    last_error = cudaSuccess;
    return code;
}

cudaError_t cudaDriverGetVersion(int* version) {
    BEGIN(begin("cudaDriverGetVersion", false));
    *version = machine().driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
    BEGIN(begin("cudaGetDeviceCount"));
    *count = machine().devices;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    BEGIN(begin("cudaGetDevice"));
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    BEGIN(begin("cudaSetDevice"));
    if (device < 0 || device >= machine().devices) return keep(cudaErrorInvalidDevice);
    current_device = device;
    machine().contexts.insert(device);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
    BEGIN(begin_on_device("cudaDeviceSynchronize"));
    if (breaks_capture()) return keep(cudaErrorStreamCaptureUnsupported);
    drain_all();
    return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
    BEGIN(begin("cudaGetDriverEntryPointByVersion"));
    if (std::strcmp(symbol, "cuDevicePrimaryCtxGetState") != 0) return keep(cudaErrorInvalidValue);
    int (*const state)(int, unsigned*, int*) = [](int device, unsigned* flags, int* active) {
        *flags = 0;
        *active = cuda_on_host_has_context(device);
        return 0;
    };
    *function = reinterpret_cast<void*>(state);
    *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    BEGIN(begin_on_device("cudaFuncGetAttributes"));
    *attributes = {};
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
    BEGIN(begin_on_device("cudaMalloc"));
    return keep(allocate(memory, bytes, current_device));
}

cudaError_t cudaFree(void* memory) {
    BEGIN(begin("cudaFree", false));
    return keep(release(memory, false));
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
    BEGIN(begin_on_device("cudaHostAlloc"));
    return keep(allocate(memory, bytes, kHost));
}

cudaError_t cudaFreeHost(void* memory) {
    BEGIN(begin("cudaFreeHost", false));
    return keep(release(memory, true));
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    BEGIN(begin_on_device("cudaMemGetInfo"));
    *total = kMemory;
    *free = kMemory - used(current_device);
    return cudaSuccess;
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
    *stream = new CudaOnHostStream{current_device};
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
    machine().captures[stream->capture] = stream->capture->thread;
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
    leave_capture(captured, all_streams());
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

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    BEGIN(begin("cudaEventRecord"));
    if (event->device != stream->device) return keep(cudaErrorInvalidResourceHandle);
    event->capture = stream->capture;
    event->stream = stream;
    event->mark = std::make_shared<Mark>(Mark{stream});
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
    finish(*event->mark);  // for the next time that this is asked
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
    *exec = new CudaOnHostExec{graph->nodes};
    ++machine().handles;
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

void cuda_on_host_fail(const char* function, int n, int code) {
    const std::lock_guard<std::recursive_mutex> held(machine().lock);
    machine().fail = function;
    machine().fail_after = n;
    machine().fail_code = static_cast<cudaError_t>(code);
}

void cuda_on_host_machine(int devices, int driver_version) {
    const std::lock_guard<std::recursive_mutex> held(machine().lock);
    machine().devices = devices;
    machine().driver = driver_version < 0 ? kDriver : driver_version;
}

void cuda_on_host_finish(std::uintptr_t stream) {
    const std::lock_guard<std::recursive_mutex> held(machine().lock);
    drain(reinterpret_cast<cudaStream_t>(stream));
}

int cuda_on_host_has_context(int device) {
    const std::lock_guard<std::recursive_mutex> held(machine().lock);
    return static_cast<int>(machine().contexts.count(device));
}

int cuda_on_host_alive() {
    const std::lock_guard<std::recursive_mutex> held(machine().lock);
    return machine().handles + static_cast<int>(machine().blocks.size());
}
