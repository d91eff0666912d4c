#include "image_to_planar.h"

#include <array>
#include <cstring>
#include <vector>

#include "parallel.h"

namespace dossr {
namespace {

// Where index i >= 0 lands when [0, size) is reflected about its ends, without repeating them, as often as needed.
std::int64_t reflected(std::int64_t i, std::int64_t size) {
    if (size == 1) return 0;
    const std::int64_t period = 2 * (size - 1);
    const std::int64_t phase = i % period;
    return phase < size ? phase : period - phase;
}

std::array<float, 256> fractions() {
    std::array<float, 256> table{};
    for (int value = 0; value < 256; ++value) table[value] = static_cast<float>(value) / 255.0f;
    return table;
}

}  // namespace

void image_to_planar(const PixelSource& source, float* out, std::int64_t height, std::int64_t width) {
    static const std::array<float, 256> fraction = fractions();
    std::vector<std::int64_t> folded(static_cast<std::size_t>(width - source.width));
    for (std::int64_t x = source.width; x < width; ++x) folded[x - source.width] = reflected(x, source.width);

    const std::int64_t plane = height * width;
    parallel_for(source.height, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t y = begin; y < end; ++y) {
            for (int c = 0; c < 3; ++c) {
                const std::uint8_t* pixel = source.data + y * source.row_stride + c * source.channel_stride;
                float* row = out + c * plane + y * width;
                for (std::int64_t x = 0; x < source.width; ++x) row[x] = fraction[pixel[x * source.column_stride]];
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

}  // namespace dossr
