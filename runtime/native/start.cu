#include "kernel_parts.h"
#include "sampler_math.h"

namespace dossr {
namespace {

constexpr int kThreads = 128;
constexpr std::int64_t kMostBlocks = 2048;

template <bool drawn>
__global__ void __launch_bounds__(kThreads)
    start_kernel(float* __restrict__ x, float* __restrict__ x0_hat, const float* __restrict__ mean,
                 const float* __restrict__ std, const float* __restrict__ noise_posterior,
                 const float* __restrict__ noise_start, ImageShape shape, std::int64_t count, DevicePlan plan,
                 bool wide) {
    const auto* const rows = reinterpret_cast<const PlanRow*>(plan.rows);
    const float c_hat = rows[0].c_hat, c_z = rows[0].c_z;
    const std::uint64_t seed = drawn ? static_cast<std::uint64_t>(*plan.seed) : 0;
    std::int32_t largest = 0;

    const auto four = [&](auto is_wide, std::int64_t i, int n) {
        constexpr bool kWide = decltype(is_wide)::value;
        const Quad means = load<kWide>(mean + i, n), stds = load<kWide>(std + i, n);
        const Quad posterior = drawn ? drawn_at(i, shape, seed, 0) : load<kWide>(noise_posterior + i, n);
        const Quad noise = drawn ? drawn_at(i, shape, seed, 1) : load<kWide>(noise_start + i, n);
        Quad samples, latents;
        DOSSR_UNROLL
        for (int k = 0; k < 4; ++k) {
            samples.v[k] = posterior_sample(means.v[k], stds.v[k], posterior.v[k]);
            latents.v[k] = first_latent(c_hat, samples.v[k], c_z, noise.v[k]);
            if (k < n) largest = larger(largest, larger(magnitude(samples.v[k]), magnitude(latents.v[k])));
        }
        store<kWide>(x0_hat + i, samples, n);
        store<kWide>(x + i, latents, n);
    };
    for_fours(count, wide, four);

    if (blockIdx.x == 0 && threadIdx.x == 0 && plan.count > 1) *plan.timestep = rows[1].timestep;
    include_largest<kThreads>(plan.largest, largest);
}

}  // namespace

void cuda::start(cudaStream_t stream, const StartArrays& arrays, const ImageShape& shape, const DevicePlan& plan) {
    const auto& [x, x0_hat, mean, std, noise_posterior, noise_start] = arrays;
    const bool drawn = noise_posterior == nullptr;
    const bool wide = aligned16(x, x0_hat, mean, std, noise_posterior, noise_start);
    const std::int64_t count = shape.size();
    const unsigned blocks = blocks_of_fours(count, kThreads, kMostBlocks);
    const auto kernel = drawn ? start_kernel<true> : start_kernel<false>;
    DOSSR_LAUNCH(kernel, blocks, kThreads, 0, stream, x, x0_hat, mean, std, noise_posterior, noise_start, shape, count,
                 plan, wide);
}

}  // namespace dossr
