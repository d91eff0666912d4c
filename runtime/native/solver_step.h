// One row of a plan: a data prediction and an update of the latent, in a single pass.
#pragma once

#include <cstdint>

#include "sampler_math.h"

namespace dossr {

struct SolverArrays {
    float* x;                     // read and written
    const float* output;          // of the network
    const float* x0_hat;
    float* predictions[3];        // newest first; [0] is written, the others are history
    const float* noise;           // null: no noise term
    int order;                    // predictions in use, 1 to 3
};

// The arrays hold `count` elements; x and predictions[0] may overlap no other. Returns the largest absolute
// value of the new x and predictions[0] (see Largest).
float solver_step(const SolverArrays& arrays, PredictionWeights prediction, UpdateWeights update,
                  std::int64_t count) noexcept;

}  // namespace dossr
