#include "solver_step.h"

#include "largest.h"
#include "parallel.h"
#include "simd.h"

namespace dossr {
namespace {

// The arrays come as parameters because GCC believes `restrict` only there, and seven that may overlap are too many for
// it to check before it vectorises.
template <int order, bool noisy>
DOSSR_INLINE std::int32_t step_loop(float* __restrict x, float* __restrict newest, const float* __restrict output,
                                    const float* __restrict x0_hat, const float* __restrict previous,
                                    const float* __restrict before, const float* __restrict noise, PredictionWeights w,
                                    UpdateWeights u, std::int64_t begin, std::int64_t end) {
    std::int32_t largest = 0;
    for (std::int64_t i = begin; i < end; ++i) {
        const float p = predict(w, x[i], output[i], x0_hat[i]);
        float next = updated<order>(u, x[i], x0_hat[i], p, order > 1 ? previous[i] : 0.0f,
                                    order > 2 ? before[i] : 0.0f);
        if (noisy) next = fma_rn(u.noise, noise[i], next);
        newest[i] = p;
        x[i] = next;
        largest = larger(largest, larger(magnitude(p), magnitude(next)));
    }
    return largest;
}

template <int order, bool noisy>
DOSSR_INLINE std::int32_t step_range(const SolverArrays& arrays, const PredictionWeights& weights,
                                     const UpdateWeights& update, std::int64_t begin, std::int64_t end) {
    return step_loop<order, noisy>(arrays.x, arrays.predictions[0], arrays.output, arrays.x0_hat,
                                   arrays.predictions[1], arrays.predictions[2], arrays.noise, weights, update, begin,
                                   end);
}

using Step = std::int32_t (*)(const SolverArrays&, const PredictionWeights&, const UpdateWeights&, std::int64_t,
                              std::int64_t);

template <int order, bool noisy>
std::int32_t step_baseline(const SolverArrays& arrays, const PredictionWeights& weights, const UpdateWeights& update,
                           std::int64_t begin, std::int64_t end) {
    return step_range<order, noisy>(arrays, weights, update, begin, end);
}

#if DOSSR_X86_DISPATCH
template <int order, bool noisy>
DOSSR_AVX2 std::int32_t step_avx2(const SolverArrays& arrays, const PredictionWeights& weights,
                                  const UpdateWeights& update, std::int64_t begin, std::int64_t end) {
    return step_range<order, noisy>(arrays, weights, update, begin, end);
}
#endif

template <int order, bool noisy>
Step choose() {
#if DOSSR_X86_DISPATCH
    if (use_avx2()) return step_avx2<order, noisy>;
#endif
    return step_baseline<order, noisy>;
}

template <int order>
Step choose(bool noisy) {
    return noisy ? choose<order, true>() : choose<order, false>();
}

}  // namespace

float solver_step(const SolverArrays& arrays, PredictionWeights prediction, UpdateWeights update,
                  std::int64_t count) noexcept {
    const bool noisy = arrays.noise != nullptr;
    const Step step = arrays.order == 1 ? choose<1>(noisy) : arrays.order == 2 ? choose<2>(noisy) : choose<3>(noisy);
    Largest largest;
    parallel_for(count, kParallelGrain, [&](std::int64_t begin, std::int64_t end) {
        largest.include(step(arrays, prediction, update, begin, end));
    });
    return largest.value();
}

}  // namespace dossr
