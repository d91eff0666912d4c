// Launches of the kernels: each queues its work on the stream, of the current device, and returns. What CUDA refuses is what
// cudaGetLastError() gives then. All pointers are to that device's memory; arrays are contiguous and need no more than
// their elements' alignment, but are moved 16 bytes at a time where they have it. The arithmetic is that of the functions
// of the same names for the host.
#pragma once

#include <cstdint>

#include "cuda_api.h"
#include "tile_blend.h"

namespace dossr {

struct ImageShape {
    std::int64_t batch, channels, height, width;
    std::int64_t item() const { return channels * height * width; }
    std::int64_t size() const { return batch * item(); }
};

// A plan in device memory: rows of kPlanColumns floats, in this order.
struct PlanRow {
    float timestep, p_x, p_out, p_hat, c_x, c_hat, c_p[3], c_z, unused[2];
};
constexpr std::int64_t kPlanColumns = 12;
static_assert(sizeof(PlanRow) == kPlanColumns * sizeof(float));

// A plan's place, and what the steps leave beside their tensors.
struct DevicePlan {
    const float* rows;
    std::int64_t count;        // of the rows
    const std::int64_t* seed;  // [1]; read where noise is drawn
    float* timestep;           // [1]; that of the next row, where there is one
    float* largest;            // [more than the row's number]; see hd.h magnitude()
};

// Noise that is null is drawn: Philox draws 0 (posterior) and 1 (start) of the seed.
struct StartArrays {
    float *x, *x0_hat;
    const float *mean, *std;
    const float *noise_posterior, *noise_start;
};

// Noise that is null is drawn: Philox draw row + 1.
struct StepArrays {
    float* x;
    const float *output, *x0_hat;
    float* newest;
    const float *previous, *before;  // read from order 2 and 3 on
    const float* noise;
    int order;  // 1 to 3
};

namespace cuda {

void cast(cudaStream_t stream, const float* in, std::uint16_t* out, std::int64_t count);
void cast(cudaStream_t stream, const std::uint16_t* in, float* out, std::int64_t count);

void philox_normal(cudaStream_t stream, float* out, const ImageShape& shape, const std::int64_t* seed,
                   std::uint32_t draw, std::uint32_t y0, std::uint32_t x0);

// Row 0 of the plan.
void start(cudaStream_t stream, const StartArrays& arrays, const ImageShape& shape, const DevicePlan& plan);

// Row `row` of the plan, 1 or more.
void solver_step(cudaStream_t stream, const StepArrays& arrays, const ImageShape& shape, const DevicePlan& plan,
                 std::int64_t row);

// in: [source_height, source_width, channels], channels 1, 3 or 4; out: [3, height, width], whose corner is at (y, x) of
// the source. Sides, and those of the window in the source, below 2^30.
template <typename Sample>
void image_to_planar(cudaStream_t stream, const Sample* in, int channels, std::int64_t source_height,
                     std::int64_t source_width, float* out, std::int64_t height, std::int64_t width, std::int64_t y,
                     std::int64_t x);

// in: [3, source_height, source_width]; out: [height, width, channels], channels 1 or 3; *largest as by DevicePlan.
template <typename Sample>
void planar_to_image(cudaStream_t stream, const float* in, std::int64_t source_height, std::int64_t source_width,
                     Sample* out, int channels, std::int64_t height, std::int64_t width, float* largest);

// Sides below 2^30.
void wavelet_fix(cudaStream_t stream, const float* content, const float* style, float* out, std::int64_t planes,
                 std::int64_t height, std::int64_t width);

// Doubles that adain_fix needs for its sums.
std::int64_t adain_work(std::int64_t planes, std::int64_t size);
void adain_fix(cudaStream_t stream, const float* content, const float* style, float* out, std::int64_t planes,
               std::int64_t size, double* work);

// Sides below 2^30.
void tile_blend(cudaStream_t stream, const float* tile, float* canvas, const float* window_y, const float* window_x,
                const BlendShape& shape);

// Planes of 2^40 elements at the most.
void match_planes(cudaStream_t stream, float* planes, const float* moves, std::int64_t items, std::int64_t channels,
                  std::int64_t size);

// Sides below 2^30.
void tile_take(cudaStream_t stream, const float* canvas, float* tile, const BlendShape& shape);

}  // namespace cuda
}  // namespace dossr
