// 8- or 16-bit interleaved pixels, or a window of them, to float planes in [0, 1]; continued right and bottom by reflection.
#pragma once

#include <cstdint>

namespace dossr {

// Pixels of one or more channels; strides in bytes, of any sign, and no alignment is asked of them. Grey pixels have a
// channel stride of 0; of four channels the first three are read.
struct PixelSource {
    const std::uint8_t* data;
    std::int64_t height, width;
    std::int64_t row_stride, column_stride, channel_stride;
};

// out: contiguous [3, height, width], whose corner is at (y, x) of the source; sides of the source are 1 or more.
// Sample: std::uint8_t or std::uint16_t.
template <typename Sample>
void image_to_planar(const PixelSource& source, float* out, std::int64_t height, std::int64_t width, std::int64_t y,
                     std::int64_t x);

}  // namespace dossr
