#include "tile_take.h"

#include <algorithm>

#include "parallel.h"

namespace dossr {

void tile_take(const float* canvas, float* tile, const BlendShape& shape) noexcept {
    const std::int64_t height = shape.tile_height, width = shape.tile_width;
    const std::int64_t inside = std::clamp<std::int64_t>(shape.canvas_width - shape.x, 0, width);
    parallel_for(shape.channels * height, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t y = shape.y + i % height;
            float* const row = tile + i * width;
            const std::int64_t count = y < shape.canvas_height ? inside : 0;
            if (count > 0) {
                const std::int64_t line = i / height * shape.canvas_height + y;
                std::copy_n(canvas + line * shape.canvas_width + shape.x, count, row);
            }
            std::fill(row + count, row + width, 0.0f);
        }
    });
}

}  // namespace dossr
