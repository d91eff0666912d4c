// Errors, devices, memory, and what tests ask of the machine.
#include "runtime.h"

#include <cstdlib>
#include <cstring>

#include "machine.h"

namespace cuda_on_host {
namespace {

constexpr std::size_t kMemory = std::size_t{1} << 30;   // of each GPU
constexpr std::size_t kContext = std::size_t{1} << 24;  // that a context takes of it

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t driver_state() {
    if (machine().driver < kDriver) return cudaErrorInsufficientDriver;
    return machine().devices > 0 ? cudaSuccess : cudaErrorNoDevice;
}

std::size_t used(int device) {
    std::size_t bytes = machine().contexts.count(device) ? kContext : 0;
    for (const auto& [base, block] : machine().blocks) bytes += block.device == device ? block.bytes : 0;
    return bytes;
}

cudaError_t allocate(void** memory, std::size_t bytes, int device) {
    if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
    if (device != kHost && used(device) + bytes > kMemory) return cudaErrorMemoryAllocation;
    void* base = nullptr;
    if (posix_memalign(&base, 256, bytes) != 0) return cudaErrorMemoryAllocation;  // exact, so that ASan sees the end
    std::memset(base, 0xA5, bytes);
    machine().blocks[static_cast<char*>(base)] = {bytes, device};
    *memory = base;
    return cudaSuccess;
}

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

}  // namespace

thread_local int current_device = 0;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeThreadLocal;

// Never destroyed: tensors may be freed while the process ends.
Machine& machine() {
    static Machine* const made = [] {
        auto* fresh = new Machine;
        if (const char* devices = std::getenv("CUDA_ON_HOST_DEVICES")) fresh->devices = std::atoi(devices);
        return fresh;
    }();
    return *made;
}

cudaError_t keep(cudaError_t code) {
    if (code != cudaSuccess && code != cudaErrorNotReady) last_error = code;
    return code;
}

cudaError_t begin(const char* function, bool needs_driver) {
    Machine& all = machine();
    ++all.calls[function];
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

bool breaks_capture() {
    if (capture_mode == cudaStreamCaptureModeRelaxed) return false;
    bool broken = false;
    for (CudaOnHostGraph* const graph : machine().captures) {
        if (graph->thread == std::this_thread::get_id()) graph->invalid = broken = true;
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

}  // namespace cuda_on_host

using namespace cuda_on_host;

const char* cudaGetErrorName(cudaError_t code) {
    switch (code) {
#define NAME(name) \
    case name: return #name;
        NAME(cudaSuccess) NAME(cudaErrorInvalidValue) NAME(cudaErrorMemoryAllocation) NAME(cudaErrorInitializationError) NAME(cudaErrorCudartUnloading)
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

void cuda_on_host_fail(const char* function, int n, int code) {
    const std::lock_guard<Lock> held(machine().lock);
    machine().fail = function;
    machine().fail_after = n;
    machine().fail_code = static_cast<cudaError_t>(code);
}

int cuda_on_host_calls(const char* function) {
    const std::lock_guard<Lock> held(machine().lock);
    return machine().calls[function];
}

void cuda_on_host_machine(int devices, int driver_version) {
    const std::lock_guard<Lock> held(machine().lock);
    machine().devices = devices;
    machine().driver = driver_version < 0 ? kDriver : driver_version;
}

int cuda_on_host_has_context(int device) {
    const std::lock_guard<Lock> held(machine().lock);
    return static_cast<int>(machine().contexts.count(device));
}

int cuda_on_host_alive() {
    const std::lock_guard<Lock> held(machine().lock);
    return machine().handles + static_cast<int>(machine().blocks.size());
}
