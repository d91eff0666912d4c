// Functions marked DOSSR_HD are compiled for the host and, by nvcc, for the device too. Their float operations go
// through the five helpers below, each of which rounds once and to nearest on both sides: that, and not a tolerance,
// is why the two sides agree in every bit.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define DOSSR_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
// Always inlined, so that a caller compiled for AVX2 and FMA gets this code compiled for them as well.
#define DOSSR_HD inline __attribute__((always_inline))
#else
#define DOSSR_HD inline
#endif

// nvcc's own pass over the host's code knows neither pragma.
#if defined(__CUDA_ARCH__)
#define DOSSR_UNROLL _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__CUDACC__)
#define DOSSR_UNROLL _Pragma("GCC unroll 16")
#else
#define DOSSR_UNROLL
#endif

namespace dossr {

DOSSR_HD float fma_rn(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#else
    return std::fma(a, b, c);
#endif
}

DOSSR_HD float mul_rn(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

DOSSR_HD float add_rn(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fadd_rn(a, b);
#else
    return a + b;
#endif
}

DOSSR_HD float div_rn(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fdiv_rn(a, b);
#else
    return a / b;
#endif
}

DOSSR_HD float sqrt_rn(float a) {
#if defined(__CUDA_ARCH__)
    return __fsqrt_rn(a);
#else
    return std::sqrt(a);
#endif
}

DOSSR_HD std::uint32_t bits_of(float a) {
#if defined(__CUDA_ARCH__)
    return __float_as_uint(a);
#else
    std::uint32_t bits;
    std::memcpy(&bits, &a, sizeof bits);
    return bits;
#endif
}

DOSSR_HD float float_of(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(bits);
#else
    float a;
    std::memcpy(&a, &bits, sizeof a);
    return a;
#endif
}

// |a| as an integer of the same order, with infinity above every number and NaN above infinity: the largest absolute
// value of many floats is an integer maximum, which no compiler flag can argue NaN away from, and which threads, warps
// and blocks may take in any order.
DOSSR_HD std::int32_t magnitude(float a) { return static_cast<std::int32_t>(bits_of(a) & 0x7fffffffu); }

DOSSR_HD std::int32_t larger(std::int32_t a, std::int32_t b) { return a > b ? a : b; }

DOSSR_HD bool not_finite(float a) { return magnitude(a) >= 0x7f800000; }

}  // namespace dossr
