// One element of the sampler's two updates. The order of the operations is part of the contract: fused multiply-adds,
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

}  // namespace dossr
