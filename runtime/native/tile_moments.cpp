#include "tile_moments.h"

#include <vector>

#include "parallel.h"

namespace dossr {

void tile_moments(const float* tile, double* sums, const float* window_y, const float* window_x, std::int64_t channels,
                  std::int64_t height, std::int64_t width) {
    std::vector<double> rows(static_cast<std::size_t>(channels * height) * 2);
    parallel_for(channels * height, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const double weight_y = window_y[i % height];
            double sum = 0.0, squares = 0.0;
            for (std::int64_t j = 0; j < width; ++j) {
                const double value = tile[i * width + j], weighted = window_x[j] * value;
                sum += weighted;
                squares += weighted * value;
            }
            rows[static_cast<std::size_t>(i) * 2] = weight_y * sum;
            rows[static_cast<std::size_t>(i) * 2 + 1] = weight_y * squares;
        }
    });
    for (std::size_t i = 0; i < rows.size(); ++i) {
        sums[i / static_cast<std::size_t>(height * 2) * 2 + i % 2] += rows[i];
    }
}

}  // namespace dossr
