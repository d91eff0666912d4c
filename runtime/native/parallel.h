// One pool of threads for all kernels: made on first use, shared by all callers, and made anew in a forked child.
#pragma once

#include <cstdint>
#include <type_traits>

namespace dossr {

// Elements of float work below which a second thread costs more than it saves.
constexpr std::int64_t kParallelGrain = 1 << 15;

// Threads a kernel may use, the caller included: the cores of this process's affinity mask until set_num_threads.
int num_threads() noexcept;
void set_num_threads(int count) noexcept;

using RangeFunction = void (*)(void* context, std::int64_t begin, std::int64_t end);
void parallel_ranges(std::int64_t count, std::int64_t grain, RangeFunction function, void* context) noexcept;

// Calls body(begin, end) over [0, count) in ranges of `grain` (the last may be shorter), in any order and from several
// threads; returns when all are done. Ranges do not depend on the number of threads. The body must not throw.
template <typename Body>
void parallel_for(std::int64_t count, std::int64_t grain, Body&& body) noexcept {
    using Plain = std::remove_reference_t<Body>;
    parallel_ranges(
        count, grain,
        [](void* context, std::int64_t begin, std::int64_t end) { (*static_cast<Plain*>(context))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&body)));
}

// Rows of `width` elements that make one range of about kParallelGrain elements.
constexpr std::int64_t row_grain(std::int64_t width) noexcept {
    const std::int64_t rows = kParallelGrain / (width > 0 ? width : 1);
    return rows > 1 ? rows : 1;
}

}  // namespace dossr
