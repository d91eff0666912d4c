// float32 to float16 and back, rounded to nearest, half to even; beyond the range infinity. A NaN becomes the quiet NaN of
// its sign, so that both sides agree in every bit there, too.
#pragma once

#include "hd.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace dossr {

DOSSR_HD std::uint16_t half_of_float(float value) {
    const std::uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
#if defined(__CUDA_ARCH__)
    const std::uint32_t half = __half_as_ushort(__float2half_rn(value));
    return static_cast<std::uint16_t>(size > 0x7f800000u ? sign | 0x7e00u : half);
#else
    // The exponent moves from a bias of 127 to 15. Half a unit of the 13 bits that go, less one, and one more where the
    // unit is odd: what is carried is what rounds up. A carry out of the fraction runs into the exponent, as it should.
    const std::uint32_t normal = (size - (112u << 23) + 0xfffu + (size >> 13 & 1u)) >> 13;
    // Below 2^-14: adding 1/2 leaves value / 2^-24, rounded by the addition itself, in the lowest bits.
    const std::uint32_t small = bits_of(add_rn(float_of(size), 0.5f)) - 0x3f000000u;
    const std::uint32_t finite = size < (113u << 23) ? small : normal;
    const std::uint32_t half = size >= 0x477ff000u ? 0x7c00u : finite;
    return static_cast<std::uint16_t>(sign | (size > 0x7f800000u ? 0x7e00u : half));
#endif
}

DOSSR_HD float float_of_half(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16, size = half & 0x7fffu;
#if defined(__CUDA_ARCH__)
    const std::uint32_t bits = bits_of(__half2float(__ushort_as_half(half)));
    return float_of(size > 0x7c00u ? sign | 0x7fc00000u : bits);
#else
    const std::uint32_t normal = (size << 13) + (112u << 23);
    // A subnormal is a count of 2^-24; both factors are exact.
    const std::uint32_t small = bits_of(mul_rn(static_cast<float>(static_cast<std::int32_t>(size)), 0x1p-24f));
    const std::uint32_t finite = size < 0x400u ? small : normal;
    const std::uint32_t other = size > 0x7c00u ? 0x7fc00000u : 0x7f800000u;
    return float_of(sign | (size >= 0x7c00u ? other : finite));
#endif
}

}  // namespace dossr
