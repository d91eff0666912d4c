// The wavelet color fix: the result's high frequencies on the style image's low frequencies.
#pragma once

#include <cstdint>

namespace dossr {

// content += blur^5(style - content), on `planes` contiguous planes [height, width]. Level i of the blur is a 3x3
// binomial of dilation 2^i with its border pixels replicated. Source: wavelet color fix of StableSR and DoSSR, where
// the frequencies are split in two decompositions; by linearity one suffices. Throws std::bad_alloc.
void wavelet_fix(float* content, const float* style, std::int64_t planes, std::int64_t height, std::int64_t width);

}  // namespace dossr
