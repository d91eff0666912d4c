#include "image_to_planar.h"

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
void image_to_planar(const PixelSource& source, float* out, std::int64_t height, std::int64_t width) {
    std::vector<std::int64_t> folded(static_cast<std::size_t>(width - source.width));
    for (std::int64_t x = source.width; x < width; ++x) folded[x - source.width] = reflected(x, source.width);

    const std::int64_t plane = height * width;
    parallel_for(source.height, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t y = begin; y < end; ++y) {
            for (int c = 0; c < 3; ++c) {
                const std::uint8_t* pixel = source.data + y * source.row_stride + c * source.channel_stride;
                float* row = out + c * plane + y * width;
                for (std::int64_t x = 0; x < source.width; ++x) {
                    row[x] = fraction_at<Sample>(pixel + x * source.column_stride);
                }
                for (std::int64_t x = source.width; x < width; ++x) row[x] = row[folded[x - source.width]];
            }
        }
    });
    const std::int64_t padding = height - source.height;
    parallel_for(3 * padding, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t y = source.height + i % padding;
            float* rows = out + i / padding * plane;
            std::memcpy(rows + y * width, rows + reflected(y, source.height) * width,
                        static_cast<std::size_t>(width) * sizeof(float));
        }
    });
}

template void image_to_planar<std::uint8_t>(const PixelSource&, float*, std::int64_t, std::int64_t);
template void image_to_planar<std::uint16_t>(const PixelSource&, float*, std::int64_t, std::int64_t);

}  // namespace dossr
