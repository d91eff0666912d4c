// A stand-in of the CUDA runtime for tests, of the functions that runtime/native calls: "device" memory is malloc'ed and
// filled with 0xA5, streams run what they are given at once, events are times of the host, capture records calls and
// replays them. It refuses what CUDA refuses: copies outside of allocations, kernels for another than the current device,
// synchronization and allocation within a capture. With CUDA_ON_HOST_LATE set, streams run what they are given only when
// something waits for it, so that whoever fails to wait is found out. It proves sequences of calls, not concurrency.
//
// CUDA_ON_HOST_DEVICES: the number of GPUs (2). Functions cuda_on_host_* are for tests, through ctypes.
#pragma once

#include <cstddef>
#include <cstdint>

enum cudaError_t : int {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInitializationError = 3,
    cudaErrorCudartUnloading = 4,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorStubLibrary = 34,
    cudaErrorInsufficientDriver = 35,
    cudaErrorDevicesUnavailable = 46,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorECCUncorrectable = 214,
    cudaErrorUnsupportedPtxVersion = 222,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchTimeout = 702,
    cudaErrorLaunchFailure = 719,
    cudaErrorSystemNotReady = 802,
    cudaErrorSystemDriverMismatch = 803,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureUnjoined = 904,
    cudaErrorStreamCaptureIsolation = 905,
    cudaErrorCapturedEvent = 907,
    cudaErrorStreamCaptureWrongThread = 908,
    cudaErrorUnknown = 999,
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1, cudaStreamCaptureModeRelaxed = 2 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone = 0, cudaStreamCaptureStatusActive = 1 };
enum cudaGraphNodeType {
    cudaGraphNodeTypeKernel = 0,
    cudaGraphNodeTypeMemcpy = 1,
    cudaGraphNodeTypeMemset = 2,
    cudaGraphNodeTypeHost = 3,
    cudaGraphNodeTypeEventRecord = 7,
};

using cudaStream_t = struct CudaOnHostStream*;
using cudaEvent_t = struct CudaOnHostEvent*;
using cudaGraph_t = struct CudaOnHostGraph*;
using cudaGraphNode_t = const struct CudaOnHostNode*;
using cudaGraphExec_t = struct CudaOnHostExec*;

enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess = 0 };

struct cudaFuncAttributes {
    int ptxVersion, binaryVersion;
};

#define CUDART_VERSION 13000
constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaHostAllocPortable = 1;
constexpr unsigned cudaEventRecordDefault = 0;
constexpr unsigned cudaEventRecordExternal = 1;
constexpr unsigned long long cudaEnableDefault = 0;

const cudaStream_t cudaStreamPerThread = reinterpret_cast<cudaStream_t>(2);

const char* cudaGetErrorName(cudaError_t code);
const char* cudaGetErrorString(cudaError_t code);
cudaError_t cudaGetLastError();

cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                             unsigned long long flags, cudaDriverEntryPointQueryResult* result);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function);

cudaError_t cudaMalloc(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpyPeerAsync(void* target, int target_device, const void* source, int source_device, std::size_t bytes,
                                cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* target, int value, std::size_t bytes, cudaStream_t stream);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);

cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count);
cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

namespace cuda_on_host {

struct Launch;  // execute.h

// Runs a kernel at once, or records it where the stream captures. What goes wrong is for cudaGetLastError.
void submit(cudaStream_t stream, Launch launch);

}  // namespace cuda_on_host

extern "C" {

// The n-th call from now (1: the next) of the named function returns that code and does nothing else.
__attribute__((visibility("default"))) void cuda_on_host_fail(const char* function, int n, int code);

// Calls of the named function so far.
__attribute__((visibility("default"))) int cuda_on_host_calls(const char* function);

// GPUs, and the version of the driver (0: none is installed) that the calls see from now on.
__attribute__((visibility("default"))) void cuda_on_host_machine(int devices, int driver_version);

// Whether the GPU has a context: something was done on it.
__attribute__((visibility("default"))) void cuda_on_host_finish(std::uintptr_t stream);
__attribute__((visibility("default"))) int cuda_on_host_has_context(int device);

// Where the stream captures, the work of a library that is not ours becomes part of the graph, and this returns 1.
__attribute__((visibility("default"))) int cuda_on_host_call(std::uintptr_t stream, void (*work)());

// Allocations, streams, events and graphs that were made and not destroyed.
__attribute__((visibility("default"))) int cuda_on_host_alive();
}
