#include "stream.h"

#include <memory>
#include <stdexcept>
#include <vector>

namespace dossr {
namespace {

std::string name_of(int device) { return Device{Device::Kind::cuda, device}.name(); }

struct CapturedGraph {
    cudaGraph_t graph;
    ~CapturedGraph() { ignore(cudaGraphDestroy(graph)); }
};

}  // namespace

Event::Event(int device, cudaStream_t stream, bool timed) : device_(device) {
    const DeviceScope scope(device);
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (timed) check(cudaStreamIsCapturing(stream, &status), "recording an event");
    check(cudaEventCreate(&event_), "making an event");
    const cudaError_t code = cudaEventRecordWithFlags(
        event_, stream, status == cudaStreamCaptureStatusNone ? cudaEventRecordDefault : cudaEventRecordExternal);
    if (code != cudaSuccess) ignore(cudaEventDestroy(event_));
    check(code, "recording an event");
}

Event::~Event() { ignore(cudaEventDestroy(event_)); }

bool Event::done() const {
    const DeviceScope scope(device_);
    const cudaError_t code = cudaEventQuery(event_);
    if (code == cudaErrorNotReady) {
        cudaGetLastError();
        return false;
    }
    check(code, "asking an event");
    return true;
}

void Event::synchronize() const {
    const DeviceScope scope(device_);
    check(cudaEventSynchronize(event_), "waiting for an event");
}

double Event::seconds_since(const Event& earlier) const {
    if (device_ != earlier.device_) {
        throw std::invalid_argument("earlier: expected an event of " + name_of(device_) + ", got one of " +
                                    name_of(earlier.device_));
    }
    const DeviceScope scope(device_);
    float milliseconds = 0.0f;
    cudaError_t code = cudaEventElapsedTime(&milliseconds, earlier.event_, event_);
    if (code == cudaErrorNotReady) {
        cudaGetLastError();
        synchronize();
        code = cudaEventElapsedTime(&milliseconds, earlier.event_, event_);
    }
    check(code, "timing events");
    return static_cast<double>(milliseconds) / 1000.0;
}

Graph::Graph(cudaGraph_t captured, int device) : device_(device) {
    const CapturedGraph owner{captured};
    const char* const doing = "making a graph of a capture";
    std::size_t count = 0;
    check(cudaGraphGetNodes(captured, nullptr, &count), doing);
    std::vector<cudaGraphNode_t> nodes(count);
    check(cudaGraphGetNodes(captured, nodes.data(), &count), doing);
    for (const cudaGraphNode_t node : nodes) {
        cudaGraphNodeType type{};
        check(cudaGraphNodeGetType(node, &type), doing);
        kernels_ += type == cudaGraphNodeTypeKernel;
    }
    const DeviceScope scope(device);
    check(cudaGraphInstantiateWithFlags(&exec_, captured, 0), doing);
}

Graph::~Graph() { ignore(cudaGraphExecDestroy(exec_)); }

Stream::Stream(int device) : device_(device) {
    const DeviceScope scope(device);
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
}

Stream::~Stream() {
    cudaStreamCaptureStatus status{};
    if (cudaStreamIsCapturing(stream_, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone) {
        cudaGraph_t unfinished = nullptr;
        ignore(cudaStreamEndCapture(stream_, &unfinished));
        if (unfinished != nullptr) ignore(cudaGraphDestroy(unfinished));
    }
    ignore(cudaStreamDestroy(stream_));
}

void Stream::copy(const Tensor& target, const Tensor& source) const {
    const auto bytes = static_cast<std::size_t>(target.nbytes());
    if (bytes == 0) return;
    const auto doing = [&] { return "copying " + source.describe() + " to " + target.describe(); };
    const DeviceScope scope(device_);
    const Device &to = target.device(), &from = source.device();
    if (to.on_cuda() && from.on_cuda() && to.index != from.index) {
        return check(cudaMemcpyPeerAsync(target.data(), to.index, source.data(), from.index, bytes, stream_), doing);
    }
    const cudaMemcpyKind kind = !to.on_cuda()     ? cudaMemcpyDeviceToHost
                                : !from.on_cuda() ? cudaMemcpyHostToDevice
                                                  : cudaMemcpyDeviceToDevice;
    check(cudaMemcpyAsync(target.data(), source.data(), bytes, kind, stream_), doing);
}

void Stream::zero(const Tensor& tensor) const {
    if (tensor.nbytes() == 0) return;
    const DeviceScope scope(device_);
    check(cudaMemsetAsync(tensor.data(), 0, static_cast<std::size_t>(tensor.nbytes()), stream_),
          [&] { return "zeroing " + tensor.describe(); });
}

void Stream::wait(const Event& event) const {
    check(cudaStreamWaitEvent(stream_, event.handle(), 0), "making a stream wait for an event");
}

void Stream::synchronize() const {
    const DeviceScope scope(device_);
    check(cudaStreamSynchronize(stream_), "synchronizing a stream");
}

void Stream::begin_capture() const {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "beginning a capture");
}

Graph* Stream::end_capture() const {
    cudaGraph_t captured = nullptr;
    check(cudaStreamEndCapture(stream_, &captured), "ending a capture");
    auto graph = std::make_unique<Graph>(captured, device_);
    const DeviceScope scope(device_);
    check(cudaGraphUpload(graph->handle(), stream_), "putting a graph on the GPU");  // else the first launch does
    return graph.release();
}

void Stream::launch(const Graph& graph) const {
    const DeviceScope scope(device_);
    check(cudaGraphLaunch(graph.handle(), stream_), "launching a graph");
}

}  // namespace dossr
