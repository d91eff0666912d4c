#include "image_to_planar.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "parallel.h"
#include "pixel_math.h"

namespace dossr {
namespace {

template <typename Sample>
float fraction_at(const std::uint8_t* place) {
    Sample value;
    std::memcpy(&value, place, sizeof value);
    return fraction_of(value);
}

}  // namespace

template <typename Sample>
void image_to_planar(const PixelSource& source, float* out, std::int64_t height, std::int64_t width, std::int64_t y,
                     std::int64_t x) {
    const std::int64_t inside = std::clamp<std::int64_t>(source.width - x, 0, width);
    std::vector<std::int64_t> folded(static_cast<std::size_t>(width - inside));
    for (std::int64_t j = inside; j < width; ++j) folded[j - inside] = reflected(x + j, source.width);

    parallel_for(3 * height, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t line = reflected(y + i % height, source.height);
            const std::uint8_t* const pixel = source.data + line * source.row_stride + i / height * source.channel_stride;
            const std::uint8_t* const first = pixel + x * source.column_stride;
            float* const row = out + i * width;
            for (std::int64_t j = 0; j < inside; ++j) row[j] = fraction_at<Sample>(first + j * source.column_stride);
            for (std::int64_t j = inside; j < width; ++j) {
                row[j] = fraction_at<Sample>(pixel + folded[j - inside] * source.column_stride);
            }
        }
    });
}

template void image_to_planar<std::uint8_t>(const PixelSource&, float*, std::int64_t, std::int64_t, std::int64_t,
                                            std::int64_t);
template void image_to_planar<std::uint16_t>(const PixelSource&, float*, std::int64_t, std::int64_t, std::int64_t,
                                             std::int64_t);

}  // namespace dossr
