#include "change_depth.h"

#include "parallel.h"
#include "pixel_math.h"

namespace dossr {
namespace {

constexpr std::int64_t kGrain = 1 << 16;

}  // namespace

void change_depth(const std::uint8_t* in, std::uint16_t* out, std::int64_t count) noexcept {
    parallel_for(count, kGrain, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) out[i] = widened(in[i]);
    });
}

void change_depth(const std::uint16_t* in, std::uint8_t* out, std::int64_t count) noexcept {
    parallel_for(count, kGrain, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) out[i] = narrowed(in[i]);
    });
}

}  // namespace dossr
