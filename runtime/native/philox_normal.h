// Standard normals of an image [batch, channels, height, width], keyed by (seed, draw, channel, y, x).
#pragma once

#include <cstdint>

namespace dossr {

struct NoiseWindow {
    std::uint64_t seed;
    std::uint32_t draw, y0, x0;
};

// Fills contiguous `out`; every item of the batch receives the same values.
void philox_normal(float* out, std::int64_t batch, std::int64_t channels, std::int64_t height, std::int64_t width,
                   NoiseWindow window) noexcept;

}  // namespace dossr
