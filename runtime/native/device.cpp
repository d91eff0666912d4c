#include "device.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace dossr {

std::string Device::name() const { return on_cuda() ? "cuda:" + std::to_string(index) : "cpu"; }

Device device_of(const std::string& text) {
    constexpr std::size_t kMostDigits = 4;
    if (text == "cpu") return {};
    for (const auto& [name, kind] : {std::pair{"pinned", Device::Kind::pinned}, std::pair{"cuda", Device::Kind::cuda}}) {
        if (text == name) return {kind, kind == Device::Kind::pinned ? -1 : 0};
        const std::string prefix = std::string(name) + ":";
        if (text.compare(0, prefix.size(), prefix) != 0) continue;
        const std::string digits = text.substr(prefix.size());
        const bool plain =
            std::all_of(digits.begin(), digits.end(), [](char digit) { return digit >= '0' && digit <= '9'; });
        if (plain && !digits.empty() && digits.size() <= kMostDigits) return {kind, std::stoi(digits)};
    }
    throw std::invalid_argument("device: expected 'cpu', 'pinned', 'pinned:N', 'cuda' or 'cuda:N', got '" + text + "'");
}

}  // namespace dossr
