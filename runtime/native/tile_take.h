// A window of the canvas of a whole picture, as a tile of its own.
#pragma once

#include "tile_blend.h"

namespace dossr {

// tile[c, i, j] = canvas[c, y + i, x + j], and 0 beyond the canvas; contiguous planes, of which tile overlaps none.
void tile_take(const float* canvas, float* tile, const BlendShape& shape) noexcept;

}  // namespace dossr
