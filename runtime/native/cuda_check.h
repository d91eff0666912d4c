// CUDA's return codes as exceptions, and the current device of a thread.
#pragma once

#include <string>
#include <type_traits>

#include "cuda_api.h"
#include "cuda_error.h"

namespace dossr {

// Throws CudaError: what was being done, CUDA's words, what to do. Takes the error from cudaGetLastError, so that it is
// reported once.
[[noreturn]] void fail(cudaError_t code, const std::string& doing);

// fail() unless the code is cudaSuccess; `doing` is a text, or a function that makes one.
template <typename Doing>
void check(cudaError_t code, const Doing& doing) {
    if (code == cudaSuccess) return;
    if constexpr (std::is_invocable_v<Doing>) {
        fail(code, doing());
    } else {
        fail(code, doing);
    }
}

// For destructors: what cannot be freed any more is gone with the driver or the context.
inline void ignore(cudaError_t code) noexcept {
    if (code != cudaSuccess) cudaGetLastError();
}

// Makes a GPU the thread's current one, and the one before afterwards. Kernels, allocations and events go to the current
// one. Meanwhile captures of other threads are none of this one's business: ONNX Runtime's forbid every thread most calls,
// and are broken by them, unless the thread says so. Throws CudaError where there is no such GPU.
class DeviceScope {
public:
    explicit DeviceScope(int device);
    ~DeviceScope();
    DeviceScope(const DeviceScope&) = delete;
    DeviceScope& operator=(const DeviceScope&) = delete;

private:
    int back_to_ = -1;
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeThreadLocal;
};

}  // namespace dossr
