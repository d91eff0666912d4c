#include "kernel_parts.h"

namespace dossr {
namespace {

constexpr int kColumns = 32, kRows = 8;  // threads of a block; each has four elements of a row
constexpr unsigned kMost = 65535;        // rows or layers of a grid

__global__ void __launch_bounds__(kColumns* kRows)
    tile_take_kernel(const float* __restrict__ canvas, float* __restrict__ tile, BlendShape shape) {
    const std::int64_t j = (std::int64_t{blockIdx.x} * kColumns + threadIdx.x) * 4;
    if (j >= shape.tile_width) return;
    const int count = up_to_four(shape.tile_width, j);
    const std::int64_t left = shape.canvas_width - shape.x - j;
    const int inside = left < count ? static_cast<int>(left < 0 ? 0 : left) : count;
    for (std::int64_t c = blockIdx.z; c < shape.channels; c += gridDim.z) {
        for (std::int64_t i = std::int64_t{blockIdx.y} * kRows + threadIdx.y; i < shape.tile_height;
             i += std::int64_t{gridDim.y} * kRows) {
            const std::int64_t y = shape.y + i;
            const float* const place = canvas + (c * shape.canvas_height + y) * shape.canvas_width + shape.x + j;
            const Quad values = load(place, y < shape.canvas_height ? inside : 0);
            store(tile + (c * shape.tile_height + i) * shape.tile_width + j, values, count);
        }
    }
}

unsigned at_most(std::int64_t count) { return static_cast<unsigned>(count < kMost ? count : kMost); }

}  // namespace

void cuda::tile_take(cudaStream_t stream, const float* canvas, float* tile, const BlendShape& shape) {
    if (shape.channels * shape.tile_height * shape.tile_width == 0) return;
    const auto columns = static_cast<unsigned>((shape.tile_width - 1) / (kColumns * 4) + 1);
    const dim3 grid(columns, at_most((shape.tile_height - 1) / kRows + 1), at_most(shape.channels));
    DOSSR_LAUNCH(tile_take_kernel, grid, dim3(kColumns, kRows), 0, stream, canvas, tile, shape);
}

}  // namespace dossr
