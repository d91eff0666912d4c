/* A stand-in for CUDA's runtime library: one GPU whose memory is the host's, and whose kernels do nothing.
 *
 * With STANDIN_LOG set, allocations, copies, launches, waits and captures go to stderr in the order of their calls.
 * STANDIN_MAJOR is the GPU's compute capability (9 by default).
 */
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#undef cudaGetDeviceProperties

static int capturing;

void standin_log(const char *format, ...) {
    if (!getenv("STANDIN_LOG")) return;
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "[cuda] %lu %s%s\n", (unsigned long)pthread_self() >> 12 & 0xfff, text, capturing ? " (recorded)" : "");
}

static int major(void) { return getenv("STANDIN_MAJOR") ? atoi(getenv("STANDIN_MAJOR")) : 9; }

static cudaError_t take(void **memory, size_t bytes) {
    if (posix_memalign(memory, 256, bytes ? bytes : 1)) return cudaErrorMemoryAllocation;
    memset(*memory, 0, bytes);
    return cudaSuccess;
}

static cudaError_t handle(void *where) {
    *(void **)where = malloc(8);
    return cudaSuccess;
}

/* The device. */

cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *all) { *free_bytes = 64ull << 30; *all = 80ull << 30; return cudaSuccess; }

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "stand-in");
    p->major = major();
    p->totalGlobalMem = 80ull << 30;
    p->multiProcessorCount = 132;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->regsPerBlock = 65536;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = 227 << 10;
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = major(); break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 227 << 10; break;
    default: *value = 1024;
    }
    return cudaSuccess;
}

/* Memory. */

cudaError_t cudaMalloc(void **memory, size_t bytes) { standin_log("cudaMalloc %zu", bytes); return take(memory, bytes); }
cudaError_t cudaMallocFromPoolAsync(void **memory, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) { return take(memory, bytes); }
cudaError_t cudaMallocHost(void **memory, size_t bytes) { return take(memory, bytes); }
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags) { return take(memory, bytes); }
cudaError_t cudaFree(void *memory) { free(memory); return cudaSuccess; }
cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream) { free(memory); return cudaSuccess; }
cudaError_t cudaFreeHost(void *memory) { free(memory); return cudaSuccess; }
cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const struct cudaMemPoolProps *properties) { return handle(pool); }

cudaError_t cudaMemcpy(void *target, const void *source, size_t bytes, enum cudaMemcpyKind kind) {
    standin_log("cudaMemcpy %zu kind %d", bytes, kind);
    memcpy(target, source, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    standin_log("cudaMemcpyAsync %zu kind %d stream %p", bytes, kind, (void *)stream);
    memcpy(target, source, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes) { memset(memory, value, bytes); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) { memset(memory, value, bytes); return cudaSuccess; }

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer) {
    memset(attributes, 0, sizeof *attributes);
    attributes->type = cudaMemoryTypeDevice;
    return cudaSuccess;
}

/* Streams, events and graphs. */

cudaError_t cudaStreamCreate(cudaStream_t *stream) { return handle(stream); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { return handle(stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { standin_log("cudaStreamSynchronize stream %p", (void *)stream); return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t *event) { return handle(event); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) { return handle(event); }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    standin_log("cudaStreamBeginCapture stream %p mode %d", (void *)stream, mode);
    capturing = 1;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    capturing = 0;
    standin_log("cudaStreamEndCapture");
    return handle(graph);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) { return handle(executable); }

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    standin_log("cudaGraphLaunch stream %p", (void *)stream);
    return cudaSuccess;
}

/* Kernels, by the names they are registered with. */

enum { KERNELS = 1 << 19 };
static struct { const void *function; const char *name; } kernels[KERNELS];
static int registered;
static __thread struct { dim3 grid, block; size_t shared; void *stream; } pushed;

static cudaError_t launch(const void *function, void *stream) {
    const char *name = "?";
    if (getenv("STANDIN_LOG"))
        for (int i = 0; i < registered; i++)
            if (kernels[i].function == function) name = kernels[i].name;
    standin_log("kernel %s stream %p", name, stream);
    return cudaSuccess;
}

void __cudaRegisterFunction(void **module, const char *function, char *device_function, const char *name, int threads,
                            void *thread_id, void *block_id, void *block, void *grid, int *warp) {
    if (registered == KERNELS) return;
    kernels[registered].function = function;
    kernels[registered++].name = name;
}

void **__cudaRegisterFatBinary(void *binary) { return malloc(8); }

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) {
    pushed.grid = grid, pushed.block = block, pushed.shared = shared, pushed.stream = stream;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *(void **)stream = pushed.stream;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(void **kernel, const void *function) { *kernel = (void *)function; return cudaSuccess; }
cudaError_t __cudaLaunchKernel(void *f, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t s) { return launch(f, s); }
cudaError_t cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t s) { return launch(f, s); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *how, const void *f, void **arguments) { return launch(f, how->stream); }

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *function) {
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = 1024;
    attributes->binaryVersion = attributes->ptxVersion = 10 * major();
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *f, int size, size_t shared, unsigned flags) {
    *blocks = 2;
    return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *result) {
    *function = NULL;
    if (result) *result = cudaDriverEntryPointSymbolNotFound;
    return cudaErrorSymbolNotFound;
}

const char *cudaGetErrorName(cudaError_t error) { return "stand-in"; }
const char *cudaGetErrorString(cudaError_t error) { return "stand-in"; }
