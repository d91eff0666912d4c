// The largest magnitude that the threads of one kernel have seen. On a GPU its place is taken by a maximum over the block
// and one atomicMax on an int in device memory.
#pragma once

#include <atomic>

#include "hd.h"

namespace dossr {

class Largest {
public:
    // Once a range, not once an element.
    void include(std::int32_t found) noexcept {
        std::int32_t seen = seen_.load(std::memory_order_relaxed);
        while (found > seen && !seen_.compare_exchange_weak(seen, found, std::memory_order_relaxed)) {
        }
    }

    // NaN if any value was, else the largest absolute value, infinity included; 0 of no values.
    float value() const noexcept { return float_of(static_cast<std::uint32_t>(seen_.load(std::memory_order_relaxed))); }

private:
    std::atomic<std::int32_t> seen_{0};
};

}  // namespace dossr
