// What kernels share: groups of four floats that a thread moves as 16 bytes, the guard's maximum, noise at a flat index.
#pragma once

#include <cstdint>
#include <type_traits>

#include "hd.h"
#include "kernels_cuda.h"
#include "launch.h"
#include "philox.h"

namespace dossr {

struct Quad {
    float v[4];
};

constexpr unsigned kAllLanes = 0xffffffffu;

// Whether float4 may be read or written at all the places, and so at any multiple of 4 elements behind them.
template <typename... Pointers>
DOSSR_HD bool aligned16(const Pointers*... places) {
    return ((reinterpret_cast<std::uintptr_t>(places) | ...) & 15u) == 0;
}

// `count` elements, 1 to 4, one by one, the rest 0; wide: 4, at a multiple of 16 bytes.
template <bool wide>
__device__ __forceinline__ Quad load(const float* from, int count) {
    if constexpr (wide) {
        const float4 four = *reinterpret_cast<const float4*>(from);
        return {{four.x, four.y, four.z, four.w}};
    } else {
        Quad quad;
        DOSSR_UNROLL
        for (int k = 0; k < 4; ++k) quad.v[k] = k < count ? from[k] : 0.0f;
        return quad;
    }
}

// To global memory: to shared memory __stwb is an access outside of it.
template <bool wide>
__device__ __forceinline__ void store(float* to, const Quad& quad, int count) {
    if constexpr (wide) {
        // The plain store by name: nvcc splits an assignment into four where it sees the narrow branch beside it.
        __stwb(reinterpret_cast<float4*>(to), make_float4(quad.v[0], quad.v[1], quad.v[2], quad.v[3]));
    } else {
        DOSSR_UNROLL
        for (int k = 0; k < 4; ++k) {
            if (k < count) to[k] = quad.v[k];
        }
    }
}

// As wide as count and address allow, which differ between rows.
__device__ __forceinline__ Quad load(const float* from, int count) {
    return count == 4 && aligned16(from) ? load<true>(from, 4) : load<false>(from, count);
}

__device__ __forceinline__ void store(float* to, const Quad& quad, int count) {
    if (count == 4 && aligned16(to)) {
        store<true>(to, quad, 4);
    } else {
        store<false>(to, quad, count);
    }
}

// What is left of `size` from `begin` on, 4 at the most.
DOSSR_HD int up_to_four(std::int64_t size, std::int64_t begin) {
    return size - begin < 4 ? static_cast<int>(size - begin) : 4;
}

// Calls body(std::bool_constant wide, index, elements) for each group of four of `count` elements, the last of which may
// be shorter; the groups are dealt to the threads of the whole grid.
template <typename Body>
__device__ __forceinline__ void for_fours(std::int64_t count, bool wide, Body&& body) {
    const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x * 4;
    for (std::int64_t i = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * 4; i < count; i += stride) {
        const int n = up_to_four(count, i);
        if (wide && n == 4) {
            body(std::true_type{}, i, 4);
        } else {
            body(std::false_type{}, i, n);
        }
    }
}

// Blocks of a grid for that: one at the least, so that a launch of no elements is one, too.
inline unsigned blocks_of_fours(std::int64_t count, int threads, std::int64_t most) {
    const std::int64_t blocks = (count + threads * 4 - 1) / (threads * 4);
    return static_cast<unsigned>(blocks < 1 ? 1 : blocks > most ? most : blocks);
}

// The block's largest magnitude into `target`, the bits of a float, by one atomic operation. Called by all threads of a
// block of kThreads, once in a kernel.
template <int kThreads>
__device__ __forceinline__ void include_largest(float* target, std::int32_t found) {
    DOSSR_SHARED(std::int32_t, warps, kThreads / 32);
    const int thread = static_cast<int>(threadIdx.x + threadIdx.y * blockDim.x);
    found = __reduce_max_sync(kAllLanes, found);
    if (thread % 32 == 0) warps[thread / 32] = found;
    __syncthreads();
    if (thread != 0) return;
    DOSSR_UNROLL
    for (int warp = 1; warp < kThreads / 32; ++warp) found = larger(found, warps[warp]);
    atomicMax(reinterpret_cast<int*>(target), static_cast<int>(found));
}

// Where the element of a flat index of [B, C, H, W] is in its item; the sides of an item are below 2^32.
struct Place {
    std::uint32_t c, y, x;
};

DOSSR_HD Place place_of(std::uint64_t index, const ImageShape& shape) {
    const auto width = static_cast<std::uint64_t>(shape.width), height = static_cast<std::uint64_t>(shape.height);
    const std::uint64_t row = index / width, plane = row / height;
    return {static_cast<std::uint32_t>(plane % static_cast<std::uint64_t>(shape.channels)),
            static_cast<std::uint32_t>(row - plane * height), static_cast<std::uint32_t>(index - row * width)};
}

// The place of the next index.
DOSSR_HD Place next_place(Place place, const ImageShape& shape) {
    if (++place.x != static_cast<std::uint32_t>(shape.width)) return place;
    place.x = 0;
    if (++place.y != static_cast<std::uint32_t>(shape.height)) return place;
    place.y = 0;
    if (++place.c == static_cast<std::uint32_t>(shape.channels)) place.c = 0;
    return place;
}

// Draw `draw` of the seed at four flat indices in a row, of a tensor whose corner is at (y0, x0) of the whole.
__device__ __forceinline__ Quad drawn_at(std::int64_t begin, const ImageShape& shape, std::uint64_t seed,
                                         std::uint32_t draw, std::uint32_t y0 = 0, std::uint32_t x0 = 0) {
    Quad normals;
    const auto low = static_cast<std::uint32_t>(seed), high = static_cast<std::uint32_t>(seed >> 32);
    Place place = place_of(static_cast<std::uint64_t>(begin), shape);
    DOSSR_UNROLL
    for (int k = 0; k < 4; ++k) {
        normals.v[k] = philox_normal_at(low, high, draw, place.c, y0 + place.y, x0 + place.x);
        place = next_place(place, shape);
    }
    return normals;
}

}  // namespace dossr
