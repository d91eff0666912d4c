// Float planes to 8-bit interleaved pixels: the last step, with its crop.
#pragma once

#include <cstdint>

namespace dossr {

struct PlaneSource {
    const float* data;  // contiguous [3, height, width]
    std::int64_t height, width;
};

// out: contiguous [height, width, 3], the top-left corner of the planes, clamped to [0, 1], times 255, rounded half to
// even. NaN and infinities become 0; returns whether there were none.
bool planar_to_image(const PlaneSource& source, std::uint8_t* out, std::int64_t height, std::int64_t width) noexcept;

}  // namespace dossr
