#include "wavelet_fix.h"

#include <algorithm>
#include <memory>

#include "image_math.h"
#include "parallel.h"

namespace dossr {
namespace {

constexpr int kLevels = 5;

// One row of a level: down the three rows into `column`, then along it into `out`.
void blur_row(float* __restrict out, float* __restrict column, const float* above, const float* at, const float* below,
              std::int64_t width, std::int64_t dilation) {
    for (std::int64_t x = 0; x < width; ++x) column[x] = binomial(above[x], at[x], below[x]);
    const std::int64_t inner_begin = std::min(dilation, width);
    const std::int64_t inner_end = std::max(inner_begin, width - dilation);
    const auto border = [&](std::int64_t x) {
        out[x] = binomial(column[std::max<std::int64_t>(x - dilation, 0)], column[x],
                          column[std::min(x + dilation, width - 1)]);
    };
    for (std::int64_t x = 0; x < inner_begin; ++x) border(x);
    for (std::int64_t x = inner_begin; x < inner_end; ++x) {
        out[x] = binomial(column[x - dilation], column[x], column[x + dilation]);
    }
    for (std::int64_t x = inner_end; x < width; ++x) border(x);
}

void blur_level(float* out, const float* in, float* columns, std::int64_t height, std::int64_t width,
                std::int64_t dilation) {
    const std::int64_t grain = row_grain(width);
    parallel_for(height, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t y = begin; y < end; ++y) {
            blur_row(out + y * width, columns + begin / grain * width,
                     in + std::max<std::int64_t>(y - dilation, 0) * width, in + y * width,
                     in + std::min(y + dilation, height - 1) * width, width, dilation);
        }
    });
}

}  // namespace

void wavelet_fix(float* content, const float* style, std::int64_t planes, std::int64_t height, std::int64_t width) {
    const std::int64_t plane = height * width;
    if (planes == 0 || plane == 0) return;
    const std::int64_t ranges = (height - 1) / row_grain(width) + 1;
    const std::unique_ptr<float[]> work(new float[static_cast<std::size_t>(2 * plane + ranges * width)]);
    float* const columns = work.get() + 2 * plane;
    for (std::int64_t p = 0; p < planes; ++p) {
        float* difference = work.get();
        float* blurred = difference + plane;
        float* const image = content + p * plane;
        const float* const target = style + p * plane;
        parallel_for(plane, kParallelGrain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) difference[i] = target[i] - image[i];
        });
        for (int level = 0; level < kLevels; ++level) {
            blur_level(blurred, difference, columns, height, width, std::int64_t{1} << level);
            std::swap(difference, blurred);
        }
        parallel_for(plane, kParallelGrain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) image[i] += difference[i];
        });
    }
}

}  // namespace dossr
