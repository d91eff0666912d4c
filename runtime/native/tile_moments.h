// What one tile adds to the sums that a picture's means and variances are made of.
#pragma once

#include <cstdint>

namespace dossr {

// sums[c][0] += window_y[i] window_x[j] tile[c, i, j], and sums[c][1] of its square: contiguous planes [channels, height,
// width]. In double, in an order that does not depend on the number of threads. Throws std::bad_alloc.
void tile_moments(const float* tile, double* sums, const float* window_y, const float* window_x, std::int64_t channels,
                  std::int64_t height, std::int64_t width);

}  // namespace dossr
