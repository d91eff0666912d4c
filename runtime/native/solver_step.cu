#include "kernel_parts.h"
#include "sampler_math.h"

namespace dossr {
namespace {

constexpr int kThreads = 128;
constexpr std::int64_t kMostBlocks = 2048;

template <int order, bool drawn>
__global__ void __launch_bounds__(kThreads)
    solver_step_kernel(float* __restrict__ x, float* __restrict__ newest, const float* __restrict__ output,
                       const float* __restrict__ x0_hat, const float* __restrict__ previous,
                       const float* __restrict__ before, const float* __restrict__ noise, ImageShape shape,
                       std::int64_t count, DevicePlan plan, std::int64_t row, bool wide) {
    const auto* const rows = reinterpret_cast<const PlanRow*>(plan.rows);
    const PlanRow& now = rows[row];
    const PredictionWeights prediction{now.p_x, now.p_out, now.p_hat};
    const UpdateWeights update{now.c_x, now.c_hat, now.c_z, {now.c_p[0], now.c_p[1], now.c_p[2]}};
    const bool noisy = update.noise != 0.0f;  // else noise is not read: 0 * infinity would be NaN
    const std::uint64_t seed = drawn ? static_cast<std::uint64_t>(*plan.seed) : 0;
    std::int32_t largest = 0;

    const auto four = [&](auto is_wide, std::int64_t i, int n) {
        constexpr bool kWide = decltype(is_wide)::value;
        const Quad latent = load<kWide>(x + i, n), out = load<kWide>(output + i, n), hat = load<kWide>(x0_hat + i, n);
        Quad second{}, third{}, normals{};
        if (order > 1) second = load<kWide>(previous + i, n);
        if (order > 2) third = load<kWide>(before + i, n);
        if (noisy) {
            normals = drawn ? drawn_at(i, shape, seed, static_cast<std::uint32_t>(row + 1)) : load<kWide>(noise + i, n);
        }
        Quad p, next;
        DOSSR_UNROLL
        for (int k = 0; k < 4; ++k) {
            p.v[k] = predict(prediction, latent.v[k], out.v[k], hat.v[k]);
            next.v[k] = updated<order>(update, latent.v[k], hat.v[k], p.v[k], second.v[k], third.v[k]);
            if (noisy) next.v[k] = fma_rn(update.noise, normals.v[k], next.v[k]);
            if (k < n) largest = larger(largest, larger(magnitude(p.v[k]), magnitude(next.v[k])));
        }
        store<kWide>(newest + i, p, n);
        store<kWide>(x + i, next, n);
    };
    for_fours(count, wide, four);

    if (blockIdx.x == 0 && threadIdx.x == 0 && row + 1 < plan.count) *plan.timestep = rows[row + 1].timestep;
    include_largest<kThreads>(plan.largest + row, largest);
}

template <bool drawn>
auto kernel_of(int order) {
    return order == 1 ? solver_step_kernel<1, drawn>
                      : order == 2 ? solver_step_kernel<2, drawn> : solver_step_kernel<3, drawn>;
}

}  // namespace

void cuda::solver_step(cudaStream_t stream, const StepArrays& arrays, const ImageShape& shape, const DevicePlan& plan,
                       std::int64_t row) {
    const auto& [x, output, x0_hat, newest, previous, before, noise, order] = arrays;
    const bool wide = aligned16(x, output, x0_hat, newest, previous, before, noise);
    const std::int64_t count = shape.size();
    const unsigned blocks = blocks_of_fours(count, kThreads, kMostBlocks);
    const auto kernel = noise == nullptr ? kernel_of<true>(order) : kernel_of<false>(order);
    DOSSR_LAUNCH(kernel, blocks, kThreads, 0, stream, x, newest, output, x0_hat, previous, before, noise, shape, count,
                 plan, row, wide);
}

}  // namespace dossr
