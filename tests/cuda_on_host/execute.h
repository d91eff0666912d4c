// Kernels on the CPU, for tests. In: a kernel compiled as C++, its grid and arguments. Out: its effects on memory. Blocks run
// one after another; the threads of a block take turns on one CPU thread, each on a stack of its own, and change only at
// barriers and warp operations; a warp goes on as far as it can before the next one does. With CUDA_ON_HOST_ORDER=reversed
// in the environment, read at every launch, blocks and threads run from the last to the first: a kernel that lacks a barrier
// gives another result in one of the two orders.
//
// Each block's shared memory is a heap buffer of exactly its size, filled with 0xA5, so that the address sanitizer sees
// what leaves it and a test sees what was never written. What would hang or be undefined on a GPU ends the process with
// a line that says why: a barrier that not all threads of the block reach, a warp operation that not all lanes of its mask
// reach.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;
constexpr int warpSize = 32;

void __syncthreads();

// The CPU thread runs one block at a time, and several may run kernels on the same memory at once: hence true atomics.
template <typename T>
T atomicAdd(T* address, T value) {
    static_assert(std::is_integral_v<T>, "on the host for integers");
    return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}
template <typename T>
T atomicMax(T* address, T value) {
    static_assert(std::is_integral_v<T>, "on the host for integers");
    T seen = __atomic_load_n(address, __ATOMIC_RELAXED);
    while (seen < value &&
           !__atomic_compare_exchange_n(address, &seen, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return seen;
}
template <typename T>
T __ldg(const T* address) {
    return *address;
}

namespace cuda_on_host {

// Stops where the address is in the running block's own memory, which instructions for global memory do not reach.
void require_global(const void* address);

}  // namespace cuda_on_host

template <typename T>
void __stwb(T* address, T value) {
    cuda_on_host::require_global(address);
    *address = value;
}

namespace cuda_on_host {

struct Launch {
    dim3 grid, block;
    std::size_t shared_bytes;
    const void* kernel;
    std::function<void()> body;  // calls the kernel with its arguments, copied
};

// Empty, or why CUDA would refuse the launch (cudaErrorInvalidConfiguration).
const char* refusal(const Launch& launch);

// Runs all blocks. The launch must be one that is not refused.
void execute(const Launch& launch);

// Kernels in use of more than 48 KiB of dynamic shared memory must ask for them once, as by cudaFuncSetAttribute. False
// above 99 KiB, what every GPU from sm_86 on has.
bool allow_dynamic_memory(const void* kernel, std::size_t bytes);

// A block's memory, the same for every thread of it that names the same declaration; at most 48 KiB together.
void* block_memory(const void* declaration, std::size_t bytes);
void* dynamic_memory();

// Hands in a value, waits until all lanes of the mask have, and gives back the values of all 32 lanes, 8 bytes each, valid
// until the next call. A lane that is not in the mask reads as zero.
const std::uint64_t* exchange(unsigned mask, std::uint64_t value);
unsigned lane();

template <typename T>
std::uint64_t packed(T value) {
    static_assert(sizeof(T) <= 8);
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}
template <typename T>
T unpacked(std::uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace cuda_on_host

// A source lane beyond the warp or outside the mask gives the caller's own value (CUDA: beyond the warp the same, outside
// the mask undefined).
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
    const std::uint64_t* const values = cuda_on_host::exchange(mask, cuda_on_host::packed(value));
    const unsigned source = cuda_on_host::lane() + delta;
    return source < 32 && (mask >> source & 1u) ? cuda_on_host::unpacked<T>(values[source]) : value;
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    const std::uint64_t* const values = cuda_on_host::exchange(mask, cuda_on_host::packed(value));
    const unsigned source = cuda_on_host::lane() ^ static_cast<unsigned>(lanes);
    return source < 32 && (mask >> source & 1u) ? cuda_on_host::unpacked<T>(values[source]) : value;
}
inline void __syncwarp(unsigned mask = 0xffffffffu) { cuda_on_host::exchange(mask, 0); }
inline int __reduce_max_sync(unsigned mask, int value) {
    const std::uint64_t* const values = cuda_on_host::exchange(mask, cuda_on_host::packed(value));
    for (unsigned source = 0; source < 32; ++source) {
        if (mask >> source & 1u) {
            const int other = cuda_on_host::unpacked<int>(values[source]);
            if (other > value) value = other;
        }
    }
    return value;
}
