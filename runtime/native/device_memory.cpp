#include "device_memory.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "cuda_check.h"
#include "tensor.h"

namespace dossr {
namespace {

std::string bytes_text(std::size_t bytes) { return std::to_string(bytes) + " bytes"; }

[[noreturn]] void no_memory(const std::string& doing, std::size_t bytes, bool on_cuda) {
    cudaGetLastError();
    std::string text = doing + ": no memory for " + bytes_text(bytes);
    std::size_t free = 0, total = 0;
    if (!on_cuda) {
        text += "; pinned memory can be neither swapped nor more than the system allows";
    } else if (cudaMemGetInfo(&free, &total) == cudaSuccess) {
        text += ", " + bytes_text(free) + " of " + std::to_string(total) + " are free";
    } else {
        cudaGetLastError();
    }
    throw OutOfMemory(text);
}

// Within a capture of this thread CUDA refuses to free, and breaks the capture, unless it is told that this is no part
// of the capture.
class OutsideCapture {
public:
    OutsideCapture() noexcept { exchange(); }
    ~OutsideCapture() { exchange(); }
    OutsideCapture(const OutsideCapture&) = delete;
    OutsideCapture& operator=(const OutsideCapture&) = delete;

private:
    void exchange() noexcept { ignore(cudaThreadExchangeStreamCaptureMode(&mode_)); }
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

void free_on_device(void* memory) noexcept {
    const OutsideCapture outside;
    ignore(cudaFree(memory));
}

void free_pinned(void* memory) noexcept {
    const OutsideCapture outside;
    ignore(cudaFreeHost(memory));
}

}  // namespace

std::shared_ptr<void> zeroed_for_cuda(std::int64_t bytes, const Device& device, const std::string& what) {
    const bool on_cuda = device.on_cuda();
    const std::string doing = "allocating " + what + (on_cuda ? " on " + device.name() : " in pinned memory");
    const auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
    void* memory = nullptr;
    std::optional<DeviceScope> scope;  // for pinned memory, too: it is made in a context
    if (device.index >= 0) scope.emplace(device.index);
    if (!on_cuda) {
        const cudaError_t code = cudaHostAlloc(&memory, size, cudaHostAllocPortable);
        if (code == cudaErrorMemoryAllocation) no_memory(doing, size, on_cuda);
        check(code, doing);
        std::memset(memory, 0, size);
        return {memory, free_pinned};
    }
    const cudaError_t code = cudaMalloc(&memory, size);
    if (code == cudaErrorMemoryAllocation) no_memory(doing, size, on_cuda);
    check(code, doing);
    const std::shared_ptr<void> owner(memory, free_on_device);
    check(cudaMemsetAsync(memory, 0, size, cudaStreamPerThread), doing);
    check(cudaStreamSynchronize(cudaStreamPerThread), doing);
    return owner;
}

void copy_on_device(void* target, const void* source, std::int64_t bytes, const Device& device) {
    const std::string doing = "copying on " + device.name();
    const DeviceScope scope(device.index);
    const auto size = static_cast<std::size_t>(bytes);
    check(cudaMemcpyAsync(target, source, size, cudaMemcpyDeviceToDevice, cudaStreamPerThread), doing);
    check(cudaStreamSynchronize(cudaStreamPerThread), doing);
}

void synchronize_device(const Device& device) {
    const std::string doing = "synchronizing " + device.name();
    const DeviceScope scope(device.index);
    check(cudaDeviceSynchronize(), doing);
}

}  // namespace dossr
