// Kernels with faults, and what the stand-in makes of them. In: the name of one. Out: what it computed, on standard output.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "launch.h"

namespace {

constexpr int kThreads = 64;

// Each thread's neighbour's number; without the barrier, what happens to be there.
template <bool barrier>
__global__ void neighbour(int* out) {
    DOSSR_SHARED(int, numbers, kThreads);
    const int thread = static_cast<int>(threadIdx.x);
    numbers[thread] = thread;
    if (barrier) __syncthreads();
    out[thread] = numbers[(thread + 1) % kThreads];
}

__global__ void unwritten(int* out) {
    DOSSR_SHARED(int, numbers, kThreads);
    DOSSR_DYNAMIC_SHARED(int, more);
    out[threadIdx.x] = numbers[threadIdx.x] == more[threadIdx.x] ? numbers[threadIdx.x] : 0;
}

__global__ void half_a_barrier(int*) {
    if (threadIdx.x < kThreads / 2) __syncthreads();
}

__global__ void half_a_warp(int* out) {
    if (threadIdx.x % 2 == 0) out[threadIdx.x] = __reduce_max_sync(0xffffffffu, 1);
}

__global__ void not_in_its_mask(int* out) { out[threadIdx.x] = __shfl_xor_sync(0x7fffffffu, 1, 1); }

__global__ void too_much_memory(int* out) {
    DOSSR_SHARED(int, numbers, 12 * 1024 + 1);
    out[threadIdx.x] = numbers[threadIdx.x];
}

__global__ void warps(int* out) {
    const int thread = static_cast<int>(threadIdx.x);
    const int most = __reduce_max_sync(0xffffffffu, thread);
    const int sum = __shfl_xor_sync(0xffffffffu, thread, 1) + __shfl_down_sync(0xffffffffu, thread, 4);
    out[thread] = 1000 * most + sum;
    atomicMax(out + kThreads, thread);
    atomicAdd(out + kThreads + 1, thread);
}

cuda_on_host::Launch launch(dim3 grid, dim3 block, std::size_t shared, void (*kernel)(int*), int* out) {
    return {grid, block, shared, reinterpret_cast<const void*>(kernel), [=] { kernel(out); }};
}

}  // namespace

int main(int, char** arguments) {
    const std::string name = arguments[1];
    int out[kThreads + 2] = {};
    void (*const kernel)(int*) = name == "right"            ? neighbour<true>
                                 : name == "no_barrier"      ? neighbour<false>
                                 : name == "unwritten"       ? unwritten
                                 : name == "half_a_barrier"  ? half_a_barrier
                                 : name == "half_a_warp"     ? half_a_warp
                                 : name == "not_in_its_mask" ? not_in_its_mask
                                 : name == "too_much_memory" ? too_much_memory
                                                             : warps;
    if (name == "refusals") {
        for (const dim3 block : {dim3(1025), dim3(32, 33), dim3(1, 1, 65), dim3(0), dim3(1024)}) {
            const char* const text = cuda_on_host::refusal(launch(1, block, 0, kernel, out));
            std::printf("%s\n", text == nullptr ? "-" : text);
        }
        for (const dim3 grid : {dim3(1, 65536), dim3(1, 1, 65536), dim3(0), dim3(0x7fffffff, 65535)}) {
            const char* const text = cuda_on_host::refusal(launch(grid, 1, 0, kernel, out));
            std::printf("%s\n", text == nullptr ? "-" : text);
        }
        for (const int bytes : {0, 99 * 1024, 99 * 1024 + 1}) {
            if (bytes > 0) std::printf("%d ", cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
            const char* const text = cuda_on_host::refusal(launch(1, 1, 49 * 1024, kernel, out));
            std::printf("%s\n", text == nullptr ? "-" : text);
        }
        return 0;
    }
    cuda_on_host::execute(launch(1, kThreads, name == "unwritten" ? kThreads * sizeof(int) : 0, kernel, out));
    for (const int value : out) std::printf("%d ", value);
    return 0;
}
