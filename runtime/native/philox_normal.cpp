#include "philox_normal.h"

#include <cstring>

#include "parallel.h"
#include "philox.h"
#include "simd.h"

namespace dossr {
namespace {

struct Row {
    std::uint32_t seed_low, seed_high, draw, channel, y, x0;
};

DOSSR_INLINE void fill_row(float* __restrict out, std::int64_t width, Row row) {
    for (std::int64_t x = 0; x < width; ++x) {
        out[x] = philox_normal_at(row.seed_low, row.seed_high, row.draw, row.channel, row.y,
                                  row.x0 + static_cast<std::uint32_t>(x));
    }
}

void fill_row_baseline(float* out, std::int64_t width, Row row) { fill_row(out, width, row); }
#if DOSSR_X86_DISPATCH
DOSSR_AVX2 void fill_row_avx2(float* out, std::int64_t width, Row row) { fill_row(out, width, row); }
#else
constexpr auto fill_row_avx2 = fill_row_baseline;
#endif

}  // namespace

void philox_normal(float* out, std::int64_t batch, std::int64_t channels, std::int64_t height, std::int64_t width,
                   NoiseWindow window) noexcept {
    if (batch == 0 || width == 0) return;
    const auto fill = use_avx2() ? fill_row_avx2 : fill_row_baseline;
    parallel_for(channels * height, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            fill(out + i * width, width,
                 {static_cast<std::uint32_t>(window.seed), static_cast<std::uint32_t>(window.seed >> 32), window.draw,
                  static_cast<std::uint32_t>(i / height), window.y0 + static_cast<std::uint32_t>(i % height),
                  window.x0});
        }
    });
    const std::int64_t item = channels * height * width;
    for (std::int64_t b = 1; b < batch; ++b) {
        std::memcpy(out + b * item, out, static_cast<std::size_t>(item) * sizeof(float));
    }
}

}  // namespace dossr
