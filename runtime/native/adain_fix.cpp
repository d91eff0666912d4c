#include "adain_fix.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "image_math.h"
#include "parallel.h"

namespace dossr {
namespace {

constexpr double kEpsilon = 1e-5;
constexpr int kLanes = 8;

struct Moments {
    double mean, std;
};

// Sums of (value - origin)^power over one range, in a fixed number of lanes so that the order of additions is fixed.
template <int power>
double range_sum(const float* values, std::int64_t begin, std::int64_t end, double origin) {
    double lanes[kLanes] = {};
    const auto term = [&](std::int64_t i) {
        const double offset = static_cast<double>(values[i]) - origin;
        return power == 1 ? offset : offset * offset;
    };
    std::int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
        for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
    }
    for (; i < end; ++i) lanes[0] += term(i);
    double sum = 0.0;
    for (const double lane : lanes) sum += lane;
    return sum;
}

template <int power>
double sum(const float* values, std::int64_t size, double origin, std::vector<double>& partial) {
    parallel_for(size, kParallelGrain, [&](std::int64_t begin, std::int64_t end) {
        partial[static_cast<std::size_t>(begin / kParallelGrain)] = range_sum<power>(values, begin, end, origin);
    });
    double total = 0.0;
    for (const double part : partial) total += part;
    return total;
}

// Two passes: the variance is taken about the mean, so nothing cancels.
Moments moments(const float* values, std::int64_t size, std::vector<double>& partial) {
    const double mean = sum<1>(values, size, 0.0, partial) / static_cast<double>(size);
    const double variance =
        size > 1 ? sum<2>(values, size, mean, partial) / static_cast<double>(size - 1) : 0.0;
    return {mean, std::sqrt(variance + kEpsilon)};
}

}  // namespace

void adain_fix(float* content, const float* style, std::int64_t planes, std::int64_t size) {
    if (planes == 0 || size == 0) return;
    std::vector<double> partial(static_cast<std::size_t>((size - 1) / kParallelGrain + 1));
    for (std::int64_t p = 0; p < planes; ++p) {
        float* const image = content + p * size;
        const Moments from = moments(image, size, partial);
        const Moments to = moments(style + p * size, size, partial);
        const float from_mean = static_cast<float>(from.mean);
        const float to_mean = static_cast<float>(to.mean);
        const float gain = static_cast<float>(to.std / from.std);
        parallel_for(size, kParallelGrain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) image[i] = matched(image[i], from_mean, gain, to_mean);
        });
    }
}

}  // namespace dossr
