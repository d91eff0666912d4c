// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) and the standard normal made
// of its first two words. A value depends on its counter and key alone: not on device, batch, tile or threads.
#pragma once

#include "normal_math.h"

namespace dossr {

struct Words4 {
    std::uint32_t w0, w1, w2, w3;
};

DOSSR_HD Words4 philox_4x32_10(Words4 counter, std::uint32_t key0, std::uint32_t key1) {
    DOSSR_UNROLL
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = static_cast<std::uint64_t>(0xD2511F53u) * counter.w0;
        const std::uint64_t b = static_cast<std::uint64_t>(0xCD9E8D57u) * counter.w2;
        counter = {static_cast<std::uint32_t>(b >> 32) ^ counter.w1 ^ key0, static_cast<std::uint32_t>(b),
                   static_cast<std::uint32_t>(a >> 32) ^ counter.w3 ^ key1, static_cast<std::uint32_t>(a)};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

// A float32 in [2^-33, 1]: the 32-bit word, rounded once, moved half a step up so that it is never 0.
DOSSR_HD float unit_of_word(std::uint32_t word) {
#if defined(__CUDA_ARCH__)
    const float value = __uint2float_rn(word);
#else
    const float value = static_cast<float>(word);
#endif
    return fma_rn(value, 0x1p-32f, 0x1p-33f);
}

// The standard normal at (c, y, x) of draw number `draw`; |value| <= 6.77.
DOSSR_HD float philox_normal_at(std::uint32_t seed_low, std::uint32_t seed_high, std::uint32_t draw, std::uint32_t c,
                                std::uint32_t y, std::uint32_t x) {
    const Words4 words = philox_4x32_10({x, y, c, draw}, seed_low, seed_high);
    return mul_rn(box_muller_radius(unit_of_word(words.w0)), sincos_turn(words.w1).cos);
}

}  // namespace dossr
