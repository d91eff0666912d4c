// One element of the sampler's start and of its two updates. The order of the operations is part of the contract: fused multiply-adds,
// left to right as the formulas are written.
#pragma once

#include "hd.h"

namespace dossr {

// p = p_x x + p_out output + p_hat x0_hat
struct PredictionWeights {
    float x, output, x0_hat;
};

// x <- c_x x + c_hat x0_hat + sum of c_p[i] p[i] + c_z noise, p newest first
struct UpdateWeights {
    float x, x0_hat, noise;
    float predictions[3];
};

DOSSR_HD float predict(PredictionWeights w, float x, float output, float x0_hat) {
    return fma_rn(w.x0_hat, x0_hat, fma_rn(w.output, output, mul_rn(w.x, x)));
}

// The update but for its noise; `previous` and `before` count from order 2 and 3 on.
template <int order>
DOSSR_HD float updated(const UpdateWeights& u, float x, float x0_hat, float p, float previous, float before) {
    float next = fma_rn(u.predictions[0], p, fma_rn(u.x0_hat, x0_hat, mul_rn(u.x, x)));
    if (order > 1) next = fma_rn(u.predictions[1], previous, next);
    if (order > 2) next = fma_rn(u.predictions[2], before, next);
    return next;
}

// A sample of the encoder's posterior, and the first latent made of it.
DOSSR_HD float posterior_sample(float mean, float std, float noise) { return fma_rn(std, noise, mean); }

DOSSR_HD float first_latent(float c_hat, float sample, float c_z, float noise) {
    return fma_rn(c_z, noise, mul_rn(c_hat, sample));
}

}  // namespace dossr
