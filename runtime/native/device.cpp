#include "device.h"

#include <algorithm>
#include <stdexcept>

namespace dossr {

std::string Device::name() const { return on_cuda() ? "cuda:" + std::to_string(index) : "cpu"; }

Device device_of(const std::string& text) {
    constexpr std::size_t kMostDigits = 4;
    if (text == "cpu") return {};
    if (text == "pinned") return {Device::Kind::pinned, 0};
    if (text == "cuda") return {Device::Kind::cuda, 0};
    const std::string prefix = "cuda:";
    if (text.compare(0, prefix.size(), prefix) == 0) {
        const std::string digits = text.substr(prefix.size());
        const bool plain =
            std::all_of(digits.begin(), digits.end(), [](char digit) { return digit >= '0' && digit <= '9'; });
        if (plain && !digits.empty() && digits.size() <= kMostDigits) return {Device::Kind::cuda, std::stoi(digits)};
    }
    throw std::invalid_argument("device: expected 'cpu', 'pinned', 'cuda' or 'cuda:N', got '" + text + "'");
}

}  // namespace dossr
