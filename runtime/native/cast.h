// float32 to float16 and back.
#pragma once

#include <cstdint>

namespace dossr {

// Rounded half to even, beyond the range infinity. float16 is given by its bits. The arrays may not overlap.
void cast(const float* in, std::uint16_t* out, std::int64_t count) noexcept;
void cast(const std::uint16_t* in, float* out, std::int64_t count) noexcept;

}  // namespace dossr
