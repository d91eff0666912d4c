// Logarithm, sine and cosine for Box-Muller, as fused-multiply-add polynomials with exact range reduction: integers
// and powers of two only. The polynomials are minimax fits (Remez, mpmath) rounded to float32.
#pragma once

#include "hd.h"

namespace dossr {

// Natural logarithm of a normal float u in (0, 1]; within 1 unit in the last place, and exactly 0 at 1.
DOSSR_HD float log_unit(float u) {
    // u = 2^e (1 + f), with 1 + f in [sqrt(1/2), sqrt(2)); f is exact.
    const std::uint32_t bits = bits_of(u);
    const std::int32_t exponent = static_cast<std::int32_t>(bits - 0x3f3504f3u) >> 23;
    const float f = add_rn(float_of(bits - (static_cast<std::uint32_t>(exponent) << 23)), -1.0f);
    const float e = static_cast<float>(exponent);
    // P(f) = (log(1 + f) - f + f^2/2) / f^3
    float p = -0.07859606295824051f;
    p = fma_rn(p, f, 0.12881644070148468f);
    p = fma_rn(p, f, -0.13128754496574402f);
    p = fma_rn(p, f, 0.14181192219257355f);
    p = fma_rn(p, f, -0.16624553501605988f);
    p = fma_rn(p, f, 0.2000228613615036f);
    p = fma_rn(p, f, -0.25000810623168945f);
    p = fma_rn(p, f, 0.33333316445350647f);
    const float f2 = mul_rn(f, f);
    // ln 2 in two parts; the first has 9 bits, so its product with e is exact.
    float small = fma_rn(e, -2.12194440054690583e-4f, mul_rn(mul_rn(f, f2), p));
    small = fma_rn(-0.5f, f2, small);
    return fma_rn(e, 0.693359375f, add_rn(f, small));
}

struct SinCos {
    float sin, cos;
};

// Sine and cosine of 2 pi turn / 2^32, each within 2 units in the last place.
DOSSR_HD SinCos sincos_turn(std::uint32_t turn) {
    const std::uint32_t quarter = (turn + 0x20000000u) >> 30;
    // What is left of the nearest quarter, t in [-1/8, 1/8) of a turn.
    const std::int32_t rest = static_cast<std::int32_t>(turn - (quarter << 30));
    const float t = mul_rn(static_cast<float>(rest), 0x1p-32f);
    const float t2 = mul_rn(t, t);
    // sin(2 pi t) / t - 2 pi, with 2 pi in two parts.
    float s = fma_rn(t2, -75.40206778304434f, 81.5925535379826f);
    s = fma_rn(s, t2, -41.34166263305733f);
    s = fma_rn(s, t2, -1.9415789331844735e-07f);
    s = fma_rn(t, 6.2831854820251465f, mul_rn(t, s));
    float c = fma_rn(t2, 59.22040729147632f, -85.4428521217837f);
    c = fma_rn(c, t2, 64.93931620846136f);
    c = fma_rn(c, t2, -19.739208650358f);
    c = fma_rn(c, t2, 1.0f);
    // A quarter turn maps (sin, cos) to (cos, -sin); signs are flipped on the bit, which is exact.
    const bool swap = (quarter & 1u) != 0;
    const std::uint32_t sin_sign = (quarter & 2u) << 30;
    const std::uint32_t cos_sign = ((quarter + 1u) & 2u) << 30;
    return {float_of(bits_of(swap ? c : s) ^ sin_sign), float_of(bits_of(swap ? s : c) ^ cos_sign)};
}

// sqrt(-2 log u) for u in (0, 1].
DOSSR_HD float box_muller_radius(float u) { return sqrt_rn(mul_rn(-2.0f, log_unit(u))); }

}  // namespace dossr
