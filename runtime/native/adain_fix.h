// The AdaIN color fix: the style image's mean and standard deviation, channel by channel.
#pragma once

#include <cstdint>

namespace dossr {

// On `planes` contiguous planes of `size` elements, in place: content = (content - mean) / std * style's std + style's
// mean. Variances are unbiased with 1e-5 added; that of a single element is 0. Sums are in double and do not depend on
// the number of threads. Throws std::bad_alloc.
void adain_fix(float* content, const float* style, std::int64_t planes, std::int64_t size);

}  // namespace dossr
