// What a .cu file is written with, so that nvcc compiles it for GPUs and, for tests, g++ for the CPU
// (tests/cuda_on_host): the launch, and the two kinds of shared memory.
#pragma once

#ifndef DOSSR_CUDA_ON_HOST

#include <cuda_runtime.h>

// The kernel stands in brackets when its template arguments hold a comma.
#define DOSSR_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)

// `count` elements of a block's own memory, at a multiple of 16 bytes; what it holds at first is not defined.
#define DOSSR_SHARED(T, name, count) __shared__ __align__(16) T name[count]

// As many as the launch asked bytes for; once in a kernel.
#define DOSSR_DYNAMIC_SHARED(T, name)                                     \
    extern __shared__ __align__(16) unsigned char dossr_dynamic_shared[]; \
    T* const name = reinterpret_cast<T*>(dossr_dynamic_shared)

#else

#include "cuda_on_host/cuda_on_host.h"

#define DOSSR_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    cuda_on_host::launch(kernel, grid, block, shared_bytes, stream, __VA_ARGS__)

#define DOSSR_SHARED(T, name, count)      \
    static const char name##_declared = 0; \
    T* const name = static_cast<T*>(cuda_on_host::block_memory(&name##_declared, sizeof(T) * (count)))

#define DOSSR_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(cuda_on_host::dynamic_memory())

#endif
