// The sampler's start: a sample of the encoder's posterior, and the first latent.
#pragma once

#include <cstdint>

namespace dossr {

// x0_hat = mean + std noise_posterior; x = c_hat x0_hat + c_z noise_start. No array may overlap x or x0_hat.
// Returns the largest absolute value of both (see Largest).
float start(float* x, float* x0_hat, const float* mean, const float* std, const float* noise_posterior,
            const float* noise_start, float c_hat, float c_z, std::int64_t count) noexcept;

}  // namespace dossr
