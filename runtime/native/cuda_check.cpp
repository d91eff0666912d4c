#include "cuda_check.h"

#include "device.h"

namespace dossr {
namespace {

// Setting a device makes its context, which takes hundreds of megabytes of its memory, if it has none.
bool has_context(int device) noexcept {
    using GetState = int (*)(int device, unsigned* flags, int* active);  // CUresult cuDevicePrimaryCtxGetState
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
    const cudaError_t code =
        cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &found, 7000, cudaEnableDefault, &result);
#elif CUDART_VERSION >= 12000
    const cudaError_t code = cudaGetDriverEntryPoint("cuDevicePrimaryCtxGetState", &found, cudaEnableDefault, &result);
#else
    const cudaError_t code = cudaGetDriverEntryPoint("cuDevicePrimaryCtxGetState", &found, cudaEnableDefault);
#endif
    if (code != cudaSuccess || result != cudaDriverEntryPointSuccess || found == nullptr) {
        cudaGetLastError();
        return true;
    }
    unsigned flags = 0;
    int active = 0;
    return reinterpret_cast<GetState>(found)(device, &flags, &active) != 0 || active != 0;
}

std::string driver_version() {
    int version = 0;
    ignore(cudaDriverGetVersion(&version));
    return version == 0 ? "" : std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string devices() {
    int count = 0;
    ignore(cudaGetDeviceCount(&count));
    return std::to_string(count);
}

std::string what_to_do(cudaError_t code) {
    switch (code) {
        case cudaErrorInsufficientDriver: {
            const std::string version = driver_version();
            return version.empty()
                       ? "no NVIDIA driver is installed here; install one, or run on the CPU"
                       : "the NVIDIA driver supports CUDA " + version + " and this build needs " +
                             std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10) +
                             "; update the driver, or build with an older CUDA toolkit";
        }
        case cudaErrorNoDevice:
            return "the driver shows no GPU; look at nvidia-smi and at CUDA_VISIBLE_DEVICES, or run on the CPU";
        case cudaErrorInitializationError:
            return "a process that was forked after CUDA was used cannot use it; start it by spawn, or fork before";
        case cudaErrorInvalidDevice: return "GPUs here: " + devices() + ", counted from cuda:0";
        case cudaErrorNoKernelImageForDevice:
        case cudaErrorUnsupportedPtxVersion:
            return "this build of runtime._native has kernels for " DOSSR_CUDA_ARCHITECTURES
                   "; build it again with DOSSR_CUDA_ARCHITECTURES set to this GPU's, or update the driver";
        case cudaErrorStubLibrary:
            return "the libcuda.so that was loaded is the toolkit's stub; take the stubs folder out of LD_LIBRARY_PATH";
        case cudaErrorSystemDriverMismatch: return "the driver was updated while it was loaded; restart the machine";
        case cudaErrorSystemNotReady: return "the machine's GPU services are not up; see whether nvidia-fabricmanager runs";
        case cudaErrorDevicesUnavailable: return "another process holds the GPU for itself; see nvidia-smi";
        case cudaErrorMemoryAllocation: return "the GPU's memory is full; take smaller tiles, or end what else uses it";
        case cudaErrorStreamCaptureUnsupported:
            return "allocate, synchronize and copy from unpinned memory before begin_capture or after end_capture";
        case cudaErrorStreamCaptureInvalidated: return "an earlier call broke the capture; capture again";
        case cudaErrorStreamCaptureUnjoined:
            return "a stream that waited for the captured one must be waited for by it before end_capture";
        case cudaErrorStreamCaptureIsolation: return "a captured stream can wait only for events of its own capture";
        case cudaErrorStreamCaptureWrongThread: return "end a capture in the thread that began it";
        case cudaErrorCapturedEvent: return "an event that was recorded within a capture is for wait() in it alone";
        case cudaErrorIllegalAddress:
        case cudaErrorLaunchFailure:
        case cudaErrorLaunchTimeout:
        case cudaErrorECCUncorrectable:
            return "the GPU's state in this process is lost; start the process again, and report it if it comes back";
        default: return "see the log of the driver (dmesg, nvidia-smi)";
    }
}

}  // namespace

void fail(cudaError_t code, const std::string& doing) {
    cudaGetLastError();
    throw CudaError(doing + ": " + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) + "); " + what_to_do(code));
}

DeviceScope::DeviceScope(int device) {
    const auto doing = [device] { return "using " + Device{Device::Kind::cuda, device}.name(); };
    int current = 0;
    check(cudaGetDevice(&current), doing);
    if (current != device) {
        const bool comes_back = has_context(current);
        check(cudaSetDevice(device), doing);
        if (comes_back) back_to_ = current;
    }
    ignore(cudaThreadExchangeStreamCaptureMode(&mode_));
}

DeviceScope::~DeviceScope() {
    ignore(cudaThreadExchangeStreamCaptureMode(&mode_));
    if (back_to_ >= 0) ignore(cudaSetDevice(back_to_));
}

}  // namespace dossr
