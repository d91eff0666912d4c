#include "kernel_parts.h"

namespace dossr {
namespace {

constexpr int kThreads = 128;

// Four values a thread, made once and written to every item of the batch.
__global__ void __launch_bounds__(kThreads)
    philox_normal_kernel(float* __restrict__ out, ImageShape shape, const std::int64_t* __restrict__ seed,
                         std::uint32_t draw, std::uint32_t y0, std::uint32_t x0) {
    const std::int64_t item = shape.channels * shape.height * shape.width;
    const std::int64_t begin = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
    if (begin >= item) return;
    const Quad normals = drawn_at(begin, shape, static_cast<std::uint64_t>(*seed), draw, y0, x0);
    const int count = up_to_four(item, begin);
    for (std::int64_t b = 0; b < shape.batch; ++b) store(out + b * item + begin, normals, count);
}

}  // namespace

void cuda::philox_normal(cudaStream_t stream, float* out, const ImageShape& shape, const std::int64_t* seed,
                         std::uint32_t draw, std::uint32_t y0, std::uint32_t x0) {
    if (shape.size() == 0) return;
    const auto blocks = static_cast<unsigned>((shape.item() - 1) / (kThreads * 4) + 1);
    DOSSR_LAUNCH(philox_normal_kernel, blocks, kThreads, 0, stream, out, shape, seed, draw, y0, x0);
}

}  // namespace dossr
