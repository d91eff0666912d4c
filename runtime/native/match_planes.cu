#include "image_math.h"
#include "kernel_parts.h"

namespace dossr {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kMost = 65535;  // layers of a grid

__global__ void __launch_bounds__(kThreads)
    match_planes_kernel(float* __restrict__ planes, const float* __restrict__ moves, std::int64_t count,
                        std::int64_t channels, std::int64_t size) {
    for (std::int64_t p = blockIdx.y; p < count; p += gridDim.y) {
        float* const plane = planes + p * size;
        const float* const move = moves + p % channels * 3;
        const float from_mean = move[0], gain = move[1], to_mean = move[2];
        const std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
        if (i >= size) continue;
        const int n = up_to_four(size, i);
        Quad values = load(plane + i, n);
        DOSSR_UNROLL
        for (int k = 0; k < 4; ++k) values.v[k] = matched(values.v[k], from_mean, gain, to_mean);
        store(plane + i, values, n);
    }
}

}  // namespace

void cuda::match_planes(cudaStream_t stream, float* planes, const float* moves, std::int64_t items,
                        std::int64_t channels, std::int64_t size) {
    const std::int64_t count = items * channels;
    if (count * size == 0) return;
    const auto columns = static_cast<unsigned>((size - 1) / (kThreads * 4) + 1);
    const auto layers = static_cast<unsigned>(count < kMost ? count : kMost);
    DOSSR_LAUNCH(match_planes_kernel, dim3(columns, layers), kThreads, 0, stream, planes, moves, count, channels,
                 size);
}

}  // namespace dossr
