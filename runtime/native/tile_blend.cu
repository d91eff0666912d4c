#include "image_math.h"
#include "kernel_parts.h"

namespace dossr {
namespace {

constexpr int kColumns = 32, kRows = 8;  // threads of a block; each has four elements of a row
constexpr unsigned kMost = 65535;        // rows or layers of a grid

__global__ void __launch_bounds__(kColumns* kRows)
    tile_blend_kernel(const float* __restrict__ tile, float* __restrict__ canvas, const float* __restrict__ window_y,
                      const float* __restrict__ window_x, BlendShape shape) {
    const std::int64_t j = (std::int64_t{blockIdx.x} * kColumns + threadIdx.x) * 4;
    if (j >= shape.tile_width) return;
    const int count = up_to_four(shape.tile_width, j);
    const Quad weights = load(window_x + j, count);
    for (std::int64_t c = blockIdx.z; c < shape.channels; c += gridDim.z) {
        for (std::int64_t i = std::int64_t{blockIdx.y} * kRows + threadIdx.y; i < shape.tile_height;
             i += std::int64_t{gridDim.y} * kRows) {
            const Quad values = load(tile + (c * shape.tile_height + i) * shape.tile_width + j, count);
            float* const place = canvas + (c * shape.canvas_height + shape.y + i) * shape.canvas_width + shape.x + j;
            Quad sums = load(place, count);
            const float weight = window_y[i];
            DOSSR_UNROLL
            for (int k = 0; k < 4; ++k) sums.v[k] = blended(sums.v[k], weight, weights.v[k], values.v[k]);
            store(place, sums, count);
        }
    }
}

unsigned at_most(std::int64_t count) { return static_cast<unsigned>(count < kMost ? count : kMost); }

}  // namespace

void cuda::tile_blend(cudaStream_t stream, const float* tile, float* canvas, const float* window_y,
                      const float* window_x, const BlendShape& shape) {
    if (shape.channels * shape.tile_height * shape.tile_width == 0) return;
    const auto columns = static_cast<unsigned>((shape.tile_width - 1) / (kColumns * 4) + 1);
    const dim3 grid(columns, at_most((shape.tile_height - 1) / kRows + 1), at_most(shape.channels));
    DOSSR_LAUNCH(tile_blend_kernel, grid, dim3(kColumns, kRows), 0, stream, tile, canvas, window_y, window_x, shape);
}

}  // namespace dossr
