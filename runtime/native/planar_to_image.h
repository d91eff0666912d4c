// Float planes to 8- or 16-bit interleaved pixels: the last step, with its crop.
#pragma once

#include <cstdint>

namespace dossr {

struct PlaneSource {
    const float* data;  // contiguous [3, height, width]
    std::int64_t height, width;
};

// out: contiguous [height, width, channels], the top-left corner of the planes, clamped to [0, 1], times the sample's
// largest value, rounded half to even. One channel is the luma of the three clamped ones. NaN and infinities become 0;
// returns the largest absolute value (see Largest) within the crop, before clamping.
// Sample: std::uint8_t or std::uint16_t; channels: 1 or 3.
template <typename Sample>
float planar_to_image(const PlaneSource& source, Sample* out, std::int64_t height, std::int64_t width,
                      int channels) noexcept;

}  // namespace dossr
