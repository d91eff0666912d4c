#include "planar_to_image.h"

#include <algorithm>
#include <atomic>

#include "hd.h"
#include "parallel.h"
#include "simd.h"

namespace dossr {
namespace {

constexpr std::int64_t kStrip = 256;

// Adding 2^23 rounds a float in [0, 255] to an integer, half to even, and leaves it in the lowest bits.
DOSSR_INLINE std::uint32_t quantise(const float* __restrict plane, std::uint8_t* __restrict out, std::int64_t count) {
    std::uint32_t bad = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t not_a_value = not_finite(plane[i]);
        const float value = not_a_value ? 0.0f : std::min(std::max(plane[i], 0.0f), 1.0f);
        out[i] = static_cast<std::uint8_t>(bits_of(add_rn(mul_rn(value, 255.0f), 8388608.0f)) & 0xffu);
        bad |= not_a_value;
    }
    return bad;
}

DOSSR_INLINE std::uint32_t row_of(const float* planes, std::int64_t plane, std::uint8_t* out, std::int64_t width) {
    std::uint8_t strip[3][kStrip];
    std::uint32_t bad = 0;
    for (std::int64_t x = 0; x < width; x += kStrip) {
        const std::int64_t count = std::min(kStrip, width - x);
        for (int c = 0; c < 3; ++c) bad |= quantise(planes + c * plane + x, strip[c], count);
        for (std::int64_t i = 0; i < count; ++i) {
            for (int c = 0; c < 3; ++c) out[3 * (x + i) + c] = strip[c][i];
        }
    }
    return bad;
}

std::uint32_t row_baseline(const float* planes, std::int64_t plane, std::uint8_t* out, std::int64_t width) {
    return row_of(planes, plane, out, width);
}
#if DOSSR_X86_DISPATCH
DOSSR_AVX2 std::uint32_t row_avx2(const float* planes, std::int64_t plane, std::uint8_t* out, std::int64_t width) {
    return row_of(planes, plane, out, width);
}
#else
constexpr auto row_avx2 = row_baseline;
#endif

}  // namespace

bool planar_to_image(const PlaneSource& source, std::uint8_t* out, std::int64_t height, std::int64_t width) noexcept {
    const auto row = use_avx2() ? row_avx2 : row_baseline;
    const std::int64_t plane = source.height * source.width;
    std::atomic<std::uint32_t> bad{0};
    parallel_for(height, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t y = begin; y < end; ++y) {
            bad.fetch_or(row(source.data + y * source.width, plane, out + 3 * y * width, width),
                         std::memory_order_relaxed);
        }
    });
    return bad == 0;
}

}  // namespace dossr
