// One tile of a picture added onto the canvas of the whole, weighted by a window of each side.
#pragma once

#include <cstdint>

namespace dossr {

struct BlendShape {
    std::int64_t channels;
    std::int64_t tile_height, tile_width;
    std::int64_t canvas_height, canvas_width;
    std::int64_t y, x;  // of the tile's corner in the canvas; the tile lies within
};

// canvas[c, y + i, x + j] += window_y[i] window_x[j] tile[c, i, j]; contiguous planes, of which canvas overlaps none.
void tile_blend(const float* tile, float* canvas, const float* window_y, const float* window_x,
                const BlendShape& shape) noexcept;

}  // namespace dossr
