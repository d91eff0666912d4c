#include "match_planes.h"

#include "image_math.h"
#include "parallel.h"

namespace dossr {

void match_planes(float* planes, const float* moves, std::int64_t items, std::int64_t channels,
                  std::int64_t size) noexcept {
    for (std::int64_t p = 0; p < items * channels; ++p) {
        float* const plane = planes + p * size;
        const float* const move = moves + p % channels * 3;
        parallel_for(size, kParallelGrain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) plane[i] = matched(plane[i], move[0], move[1], move[2]);
        });
    }
}

}  // namespace dossr
