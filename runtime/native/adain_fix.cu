#include "image_math.h"
#include "kernel_parts.h"

namespace dossr {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 32;                  // elements of a thread, in registers
constexpr int kChunk = kThreads * kEach;   // of a block
constexpr unsigned kMostLayers = 65535;    // of a grid
constexpr double kEpsilon = 1e-5;

// Of a chunk: its mean, and the sum of the squares of what is left of it.
struct Partial {
    double mean, squares;
};

// `work` holds [planes][content, style][chunks].
struct Layout {
    std::int64_t planes, size;
    DOSSR_HD std::int64_t chunks() const { return (size + kChunk - 1) / kChunk; }
    DOSSR_HD std::int64_t first(std::int64_t plane, int image) const { return (plane * 2 + image) * chunks(); }
    DOSSR_HD std::int64_t elements(std::int64_t chunk) const {
        const std::int64_t left = size - chunk * kChunk;
        return left < kChunk ? left : kChunk;
    }
};

// The sum over the block, in an order that depends on nothing, for every thread.
__device__ __forceinline__ double block_sum(double value) {
    DOSSR_SHARED(double, warps, kThreads / 32);
    DOSSR_UNROLL
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
    __syncthreads();  // the sum before this one has been read
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    double sum = 0.0;
    DOSSR_UNROLL
    for (int warp = 0; warp < kThreads / 32; ++warp) sum += warps[warp];
    return sum;
}

__global__ void __launch_bounds__(kThreads)
    adain_sums_kernel(const float* __restrict__ content, const float* __restrict__ style, Partial* __restrict__ work,
                      Layout layout, bool wide) {
    const std::int64_t chunk = blockIdx.x;
    const int image = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
    const int count = static_cast<int>(layout.elements(chunk));
    for (std::int64_t p = blockIdx.z; p < layout.planes; p += gridDim.z) {
        const float* const values = (image == 0 ? content : style) + p * layout.size + chunk * kChunk;
        float mine[kEach];
        int n = kEach;  // of mine, from the first on
        if (wide && count == kChunk) {
            DOSSR_UNROLL
            for (int i = 0; i < kEach / 4; ++i) {
                const Quad quad = load<true>(values + 4 * (i * kThreads + thread), 4);
                DOSSR_UNROLL
                for (int k = 0; k < 4; ++k) mine[4 * i + k] = quad.v[k];
            }
        } else {
            n = thread < count ? (count - thread - 1) / kThreads + 1 : 0;
            DOSSR_UNROLL
            for (int i = 0; i < kEach; ++i) mine[i] = i < n ? values[i * kThreads + thread] : 0.0f;
        }
        double sum = 0.0, squares = 0.0;
        DOSSR_UNROLL
        for (int i = 0; i < kEach; ++i) sum += static_cast<double>(mine[i]);
        const double mean = block_sum(sum) / count;
        DOSSR_UNROLL
        for (int i = 0; i < kEach; ++i) {
            const double offset = i < n ? static_cast<double>(mine[i]) - mean : 0.0;
            squares += offset * offset;
        }
        squares = block_sum(squares);
        if (thread == 0) work[layout.first(p, image) + chunk] = {mean, squares};
    }
}

struct Moments {
    double mean, std;
};

// Of a whole plane; for every thread of the block.
__device__ __forceinline__ Moments moments(const Partial* __restrict__ partials, const Layout& layout) {
    double sum = 0.0, squares = 0.0;
    for (std::int64_t i = threadIdx.x; i < layout.chunks(); i += kThreads) {
        sum += static_cast<double>(layout.elements(i)) * partials[i].mean;
    }
    const double mean = block_sum(sum) / static_cast<double>(layout.size);
    for (std::int64_t i = threadIdx.x; i < layout.chunks(); i += kThreads) {
        const double offset = partials[i].mean - mean;
        squares += partials[i].squares + static_cast<double>(layout.elements(i)) * offset * offset;
    }
    squares = block_sum(squares);
    const double variance = layout.size > 1 ? squares / static_cast<double>(layout.size - 1) : 0.0;
    return {mean, sqrt(variance + kEpsilon)};
}

__global__ void __launch_bounds__(kThreads)
    adain_apply_kernel(const float* __restrict__ content, float* __restrict__ out, const Partial* __restrict__ work,
                       Layout layout) {
    const std::int64_t chunk = blockIdx.x;
    const int count = static_cast<int>(layout.elements(chunk));
    for (std::int64_t p = blockIdx.z; p < layout.planes; p += gridDim.z) {
        const Moments from = moments(work + layout.first(p, 0), layout);
        const Moments to = moments(work + layout.first(p, 1), layout);
        const float from_mean = static_cast<float>(from.mean), to_mean = static_cast<float>(to.mean);
        const float gain = static_cast<float>(to.std / from.std);
        const std::int64_t begin = p * layout.size + chunk * kChunk;
        for (int i = static_cast<int>(threadIdx.x) * 4; i < count; i += kThreads * 4) {
            const int n = up_to_four(count, i);
            Quad values = load(content + begin + i, n);
            DOSSR_UNROLL
            for (int k = 0; k < 4; ++k) values.v[k] = matched(values.v[k], from_mean, gain, to_mean);
            store(out + begin + i, values, n);
        }
    }
}

}  // namespace

std::int64_t cuda::adain_work(std::int64_t planes, std::int64_t size) {
    return Layout{planes, size}.first(planes, 0) * static_cast<std::int64_t>(sizeof(Partial) / sizeof(double));
}

void cuda::adain_fix(cudaStream_t stream, const float* content, const float* style, float* out, std::int64_t planes,
                     std::int64_t size, double* work) {
    if (planes * size == 0) return;
    const Layout layout{planes, size};
    const auto chunks = static_cast<unsigned>(layout.chunks());
    const auto layers = static_cast<unsigned>(planes < kMostLayers ? planes : kMostLayers);
    auto* const partials = reinterpret_cast<Partial*>(work);
    const bool wide = aligned16(content, style) && size % 4 == 0;
    DOSSR_LAUNCH(adain_sums_kernel, dim3(chunks, 2, layers), kThreads, 0, stream, content, style, partials, layout,
                 wide);
    DOSSR_LAUNCH(adain_apply_kernel, dim3(chunks, 1, layers), kThreads, 0, stream, content, out, partials, layout);
}

}  // namespace dossr
