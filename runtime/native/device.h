// Where memory is: on the host, on the host but pinned for GPUs, or on a GPU.
#pragma once

#include <string>

namespace dossr {

struct Device {
    enum class Kind { host, pinned, cuda };
    Kind kind = Kind::host;
    int index = 0;  // of the GPU; of pinned memory: whose context it is made in, -1: the current one's

    bool on_cuda() const noexcept { return kind == Kind::cuda; }

    // "cpu" (pinned memory too) or "cuda:N".
    std::string name() const;
};

// The device of "cpu", "pinned" or "pinned:N" (for every GPU; N: whose context it is made in), "cuda" (the first GPU) or
// "cuda:N"; throws std::invalid_argument for other text.
Device device_of(const std::string& text);

}  // namespace dossr
