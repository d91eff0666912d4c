#include "half_math.h"
#include "kernel_parts.h"

namespace dossr {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;  // 16 bytes of float16

__global__ void __launch_bounds__(kThreads)
    cast_to_half(const float* __restrict__ in, std::uint16_t* __restrict__ out, std::int64_t count, bool wide) {
    const std::int64_t begin = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kEach;
    if (wide && begin + kEach <= count) {
        const Quad first = load<true>(in + begin, 4), second = load<true>(in + begin + 4, 4);
        const auto pair = [](float low, float high) {
            return half_of_float(low) | static_cast<std::uint32_t>(half_of_float(high)) << 16;
        };
        *reinterpret_cast<uint4*>(out + begin) =
            make_uint4(pair(first.v[0], first.v[1]), pair(first.v[2], first.v[3]), pair(second.v[0], second.v[1]),
                       pair(second.v[2], second.v[3]));
        return;
    }
    for (std::int64_t i = begin; i < begin + kEach && i < count; ++i) out[i] = half_of_float(in[i]);
}

__global__ void __launch_bounds__(kThreads)
    cast_to_float(const std::uint16_t* __restrict__ in, float* __restrict__ out, std::int64_t count, bool wide) {
    const std::int64_t begin = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kEach;
    if (wide && begin + kEach <= count) {
        const uint4 halves = *reinterpret_cast<const uint4*>(in + begin);
        const auto low = [](std::uint32_t pair) { return float_of_half(static_cast<std::uint16_t>(pair)); };
        const auto high = [](std::uint32_t pair) { return float_of_half(static_cast<std::uint16_t>(pair >> 16)); };
        store<true>(out + begin, {{low(halves.x), high(halves.x), low(halves.y), high(halves.y)}}, 4);
        store<true>(out + begin + 4, {{low(halves.z), high(halves.z), low(halves.w), high(halves.w)}}, 4);
        return;
    }
    for (std::int64_t i = begin; i < begin + kEach && i < count; ++i) out[i] = float_of_half(in[i]);
}

unsigned blocks_of(std::int64_t count) { return static_cast<unsigned>((count - 1) / (kThreads * kEach) + 1); }

}  // namespace

void cuda::cast(cudaStream_t stream, const float* in, std::uint16_t* out, std::int64_t count) {
    if (count == 0) return;
    DOSSR_LAUNCH(cast_to_half, blocks_of(count), kThreads, 0, stream, in, out, count, aligned16(in, out));
}

void cuda::cast(cudaStream_t stream, const std::uint16_t* in, float* out, std::int64_t count) {
    if (count == 0) return;
    DOSSR_LAUNCH(cast_to_float, blocks_of(count), kThreads, 0, stream, in, out, count, aligned16(in, out));
}

}  // namespace dossr
