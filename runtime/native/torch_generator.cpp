#include "torch_generator.h"

#include <cmath>

#include "normal_math.h"
#include "simd.h"

namespace dossr {
namespace {

constexpr std::int64_t kBlock = 16;

// Turns the words in 16 places into 16 normals: word j gives a radius, word j + 8 an angle. Only 24 bits of each
// count; as fractions of 1 << 24 they are exact in float32, and the angle needs no reduction but that of integers.
DOSSR_INLINE void box_muller_16(float* out, const std::uint32_t* words) {
    for (int j = 0; j < 8; ++j) {
        const std::int32_t fraction = static_cast<std::int32_t>(words[j] & 0xffffffu);
        const float radius = box_muller_radius(mul_rn(static_cast<float>((1 << 24) - fraction), 0x1p-24f));
        const SinCos angle = sincos_turn(words[j + 8] << 8);
        out[j] = mul_rn(radius, angle.cos);
        out[j + 8] = mul_rn(radius, angle.sin);
    }
}

DOSSR_INLINE void box_muller(float* out, const std::uint32_t* words, std::int64_t blocks) {
    for (std::int64_t i = 0; i < blocks; ++i) box_muller_16(out + i * kBlock, words + i * kBlock);
}

void box_muller_baseline(float* out, const std::uint32_t* words, std::int64_t blocks) {
    box_muller(out, words, blocks);
}
#if DOSSR_X86_DISPATCH
DOSSR_AVX2 void box_muller_avx2(float* out, const std::uint32_t* words, std::int64_t blocks) {
    box_muller(out, words, blocks);
}
#else
constexpr auto box_muller_avx2 = box_muller_baseline;
#endif

}  // namespace

Mt19937::Mt19937(std::uint32_t seed) noexcept {
    state_[0] = seed;
    for (std::uint32_t i = 1; i < 624; ++i) state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
}

void Mt19937::refill() noexcept {
    const auto mix = [this](int i, int next, int far) {
        const std::uint32_t y = (state_[i] & 0x80000000u) | (state_[next] & 0x7fffffffu);
        state_[i] = state_[far] ^ (y >> 1) ^ ((y & 1u) ? 0x9908b0dfu : 0u);
    };
    for (int i = 0; i < 227; ++i) mix(i, i + 1, i + 397);
    for (int i = 227; i < 623; ++i) mix(i, i + 1, i - 227);
    mix(623, 0, 396);
    used_ = 0;
}

std::uint32_t Mt19937::next() noexcept {
    if (used_ == 624) refill();
    std::uint32_t y = state_[used_++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

void TorchCpuGenerator::normal(float* out, std::int64_t count) noexcept {
    std::lock_guard<std::mutex> lock(turn_);
    if (count >= kBlock) {
        normal_many(out, count);
    } else {
        for (std::int64_t i = 0; i < count; ++i) out[i] = normal_one();
    }
}

// One word a value, in order; where the count is no multiple of 16, the last 16 values are drawn once more.
void TorchCpuGenerator::normal_many(float* out, std::int64_t count) noexcept {
    constexpr std::int64_t kBlocks = 64;
    std::uint32_t words[kBlocks * kBlock];
    const auto transform = use_avx2() ? box_muller_avx2 : box_muller_baseline;
    const auto draw = [&](float* at, std::int64_t blocks) {
        for (std::int64_t i = 0; i < blocks * kBlock; ++i) words[i] = engine_.next();
        transform(at, words, blocks);
    };
    const std::int64_t whole = count / kBlock;
    for (std::int64_t block = 0; block < whole; block += kBlocks) {
        draw(out + block * kBlock, whole - block < kBlocks ? whole - block : kBlocks);
    }
    const std::int64_t rest = count % kBlock;
    if (rest == 0) return;
    for (std::int64_t i = 0; i < rest; ++i) engine_.next();  // drawn, and overwritten before use
    draw(out + count - kBlock, 1);
}

double TorchCpuGenerator::uniform_double() noexcept {
    const std::uint64_t high = engine_.next();
    const std::uint64_t low = engine_.next();
    return static_cast<double>(((high << 32) | low) & ((std::uint64_t{1} << 53) - 1)) * 0x1p-53;
}

// Fewer than 16 values at once come one by one from pairs in double; the second of a pair waits for the next call.
float TorchCpuGenerator::normal_one() noexcept {
    if (has_spare_) {
        has_spare_ = false;
        return static_cast<float>(spare_);
    }
    const double angle = 6.283185307179586476925 * uniform_double();
    const double radius = std::sqrt(-2.0 * std::log1p(-uniform_double()));
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return static_cast<float>(radius * std::cos(angle));
}

}  // namespace dossr
