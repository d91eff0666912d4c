// The normals of PyTorch's CPU generator: mt19937 and Box-Muller in the order torch.randn draws them.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

namespace dossr {

// Matsumoto and Nishimura's mt19937 ("Mersenne twister", ACM TOMACS 1998), with their 2002 initialisation.
class Mt19937 {
public:
    explicit Mt19937(std::uint32_t seed) noexcept;
    std::uint32_t next() noexcept;

private:
    void refill() noexcept;
    std::array<std::uint32_t, 624> state_;
    int used_ = 624;
};

class TorchCpuGenerator {
public:
    explicit TorchCpuGenerator(std::uint64_t seed) noexcept : engine_(static_cast<std::uint32_t>(seed)) {}

    // What torch.randn(count) would return next, float32, to 5e-6. Callers on several threads take turns.
    void normal(float* out, std::int64_t count) noexcept;

private:
    void normal_many(float* out, std::int64_t count) noexcept;
    float normal_one() noexcept;
    double uniform_double() noexcept;

    std::mutex turn_;
    Mt19937 engine_;
    bool has_spare_ = false;
    double spare_ = 0.0;
};

}  // namespace dossr
