// Samples of 8 bits as 16, and back, to the nearest.
#pragma once

#include <cstdint>

namespace dossr {

void change_depth(const std::uint8_t* in, std::uint16_t* out, std::int64_t count) noexcept;
void change_depth(const std::uint16_t* in, std::uint8_t* out, std::int64_t count) noexcept;

}  // namespace dossr
