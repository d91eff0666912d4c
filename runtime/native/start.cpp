#include "start.h"

#include "largest.h"
#include "parallel.h"
#include "sampler_math.h"
#include "simd.h"

namespace dossr {
namespace {

struct Arrays {
    float *x, *x0_hat;
    const float *mean, *std, *noise_posterior, *noise_start;
    float c_hat, c_z;
};

DOSSR_INLINE std::int32_t start_range(const Arrays& arrays, std::int64_t begin, std::int64_t end) {
    float* __restrict const x = arrays.x;
    float* __restrict const x0_hat = arrays.x0_hat;
    const float* __restrict const mean = arrays.mean;
    const float* __restrict const std = arrays.std;
    const float* __restrict const noise_posterior = arrays.noise_posterior;
    const float* __restrict const noise_start = arrays.noise_start;
    const float c_hat = arrays.c_hat, c_z = arrays.c_z;
    std::int32_t largest = 0;
    for (std::int64_t i = begin; i < end; ++i) {
        const float sample = posterior_sample(mean[i], std[i], noise_posterior[i]);
        const float latent = first_latent(c_hat, sample, c_z, noise_start[i]);
        x0_hat[i] = sample;
        x[i] = latent;
        largest = larger(largest, larger(magnitude(sample), magnitude(latent)));
    }
    return largest;
}

std::int32_t start_baseline(const Arrays& arrays, std::int64_t begin, std::int64_t end) {
    return start_range(arrays, begin, end);
}
#if DOSSR_X86_DISPATCH
DOSSR_AVX2 std::int32_t start_avx2(const Arrays& arrays, std::int64_t begin, std::int64_t end) {
    return start_range(arrays, begin, end);
}
#else
constexpr auto start_avx2 = start_baseline;
#endif

}  // namespace

float start(float* x, float* x0_hat, const float* mean, const float* std, const float* noise_posterior,
            const float* noise_start, float c_hat, float c_z, std::int64_t count) noexcept {
    const Arrays arrays{x, x0_hat, mean, std, noise_posterior, noise_start, c_hat, c_z};
    const auto range = use_avx2() ? start_avx2 : start_baseline;
    Largest largest;
    parallel_for(count, kParallelGrain,
                 [&](std::int64_t begin, std::int64_t end) { largest.include(range(arrays, begin, end)); });
    return largest.value();
}

}  // namespace dossr
