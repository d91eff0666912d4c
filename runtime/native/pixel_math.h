// What one sample of a pixel means: an unsigned 8- or 16-bit integer stands for a fraction of its largest value.
#pragma once

#include <cstdint>
#include <limits>

#include "hd.h"

namespace dossr {

// A constant, because device code may not call std::numeric_limits.
template <typename Sample>
constexpr float kWhite = static_cast<float>(std::numeric_limits<Sample>::max());

template <typename Sample>
DOSSR_HD float fraction_of(Sample value) {
    return div_rn(static_cast<float>(value), kWhite<Sample>);
}

// The same for every sample, without the slow path of a division: the product with the reciprocal, and what it is off by.
template <typename Sample>
DOSSR_HD float fraction_by_reciprocal(Sample value) {
    constexpr float reciprocal = 1.0f / kWhite<Sample>;
    const float sample = static_cast<float>(value), product = mul_rn(sample, reciprocal);
    return fma_rn(fma_rn(-product, kWhite<Sample>, sample), reciprocal, product);
}

// In [0, 1]; what is not finite becomes 0.
DOSSR_HD float clamped(float value) {
    if (not_finite(value)) return 0.0f;
    const float positive = value > 0.0f ? value : 0.0f;
    return positive < 1.0f ? positive : 1.0f;
}

// Of a value in [0, 1], rounded half to even: adding 2^23 rounds a float in [0, 65535] to an integer and leaves it in the
// lowest bits.
template <typename Sample>
DOSSR_HD Sample quantised(float value) {
    return static_cast<Sample>(bits_of(add_rn(mul_rn(value, kWhite<Sample>), 8388608.0f)));
}

// Rec. 601 luma. Of three equal values in [0, 1] it is that value to 1e-7, a 150th of a 16-bit step.
DOSSR_HD float luma(float red, float green, float blue) {
    return fma_rn(0.114f, blue, fma_rn(0.587f, green, mul_rn(0.299f, red)));
}

// Where index i >= 0 lands when [0, size) is reflected about its ends, without repeating them, as often as needed.
DOSSR_HD std::int64_t reflected(std::int64_t i, std::int64_t size) {
    if (i < size) return i;
    if (size == 1) return 0;
    const std::int64_t period = 2 * (size - 1);
    const std::int64_t phase = i % period;
    return phase < size ? phase : period - phase;
}

// Between depths, to the nearest: 255 and 65535 are both white.
DOSSR_HD std::uint16_t widened(std::uint8_t value) { return static_cast<std::uint16_t>(value * 257u); }
DOSSR_HD std::uint8_t narrowed(std::uint16_t value) { return static_cast<std::uint8_t>((value * 255u + 32895u) >> 16); }

}  // namespace dossr
