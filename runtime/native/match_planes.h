// Planes moved from means and standard deviations that are known to others: the AdaIN color fix, piece by piece.
#pragma once

#include <cstdint>

namespace dossr {

// On `items` times `channels` contiguous planes of `size` elements, in place: value = (value - moves[c][0]) moves[c][1] +
// moves[c][2].
void match_planes(float* planes, const float* moves, std::int64_t items, std::int64_t channels,
                  std::int64_t size) noexcept;

}  // namespace dossr
