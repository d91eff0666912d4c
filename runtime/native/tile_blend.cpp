#include "tile_blend.h"

#include "image_math.h"
#include "parallel.h"
#include "simd.h"

namespace dossr {
namespace {

DOSSR_INLINE void blend_row(const float* __restrict tile, float* __restrict canvas, float weight_y,
                            const float* __restrict window_x, std::int64_t width) {
    for (std::int64_t j = 0; j < width; ++j) canvas[j] = blended(canvas[j], weight_y, window_x[j], tile[j]);
}

void row_baseline(const float* tile, float* canvas, float weight_y, const float* window_x, std::int64_t width) {
    blend_row(tile, canvas, weight_y, window_x, width);
}
#if DOSSR_X86_DISPATCH
DOSSR_AVX2 void row_avx2(const float* tile, float* canvas, float weight_y, const float* window_x,
                         std::int64_t width) {
    blend_row(tile, canvas, weight_y, window_x, width);
}
#else
constexpr auto row_avx2 = row_baseline;
#endif

}  // namespace

void tile_blend(const float* tile, float* canvas, const float* window_y, const float* window_x,
                const BlendShape& shape) noexcept {
    const auto row = use_avx2() ? row_avx2 : row_baseline;
    const std::int64_t height = shape.tile_height, width = shape.tile_width;
    parallel_for(shape.channels * height, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t y = i % height;
            const std::int64_t line = i / height * shape.canvas_height + shape.y + y;
            row(tile + i * width, canvas + line * shape.canvas_width + shape.x, window_y[y], window_x, width);
        }
    });
}

}  // namespace dossr
