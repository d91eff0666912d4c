#include "cast.h"

#include "half_math.h"
#include "parallel.h"

namespace dossr {

void cast(const float* in, std::uint16_t* out, std::int64_t count) noexcept {
    parallel_for(count, kParallelGrain, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) out[i] = half_of_float(in[i]);
    });
}

void cast(const std::uint16_t* in, float* out, std::int64_t count) noexcept {
    parallel_for(count, kParallelGrain, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) out[i] = float_of_half(in[i]);
    });
}

}  // namespace dossr
