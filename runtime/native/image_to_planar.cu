#include "kernel_parts.h"
#include "pixel_math.h"

namespace dossr {
namespace {

constexpr int kColumns = 32, kRows = 8;  // threads of a block; each has four pixels of a row
constexpr int kMostRows = 65535;         // of a grid

// Four pixels in a row as 32-bit words, and one sample out of them.
template <typename Sample, int channels>
struct Pixels {
    static constexpr int kWords = channels * static_cast<int>(sizeof(Sample));
    std::uint32_t words[kWords];

    __device__ __forceinline__ explicit Pixels(const Sample* from) {
        DOSSR_UNROLL
        for (int i = 0; i < kWords; ++i) words[i] = reinterpret_cast<const std::uint32_t*>(from)[i];
    }
    __device__ __forceinline__ Sample at(int pixel, int channel) const {
        constexpr int kInWord = 4 / static_cast<int>(sizeof(Sample));
        const int i = pixel * channels + channel;
        return static_cast<Sample>(words[i / kInWord] >> (i % kInWord * 8 * static_cast<int>(sizeof(Sample))));
    }
};

template <typename Sample, int channels>
__global__ void __launch_bounds__(kColumns* kRows)
    image_to_planar_kernel(const Sample* __restrict__ in, int source_height, int source_width, float* __restrict__ out,
                           int height, int width, int y0, int x0) {
    const int x = static_cast<int>(blockIdx.x * kColumns + threadIdx.x) * 4;
    if (x >= width) return;
    const int count = up_to_four(width, x);
    const std::int64_t plane = std::int64_t{height} * width;
    const int step = static_cast<int>(gridDim.y) * kRows;
    for (int y = static_cast<int>(blockIdx.y * kRows + threadIdx.y); y < height; y += step) {
        const Sample* const row = in + reflected(y0 + y, source_height) * source_width * channels;
        const Sample* const first = row + (std::int64_t{x0} + x) * channels;
        Quad planes[3];
        if (x0 + x + 4 <= source_width && (reinterpret_cast<std::uintptr_t>(first) & 3u) == 0) {
            const Pixels<Sample, channels> pixels(first);
            DOSSR_UNROLL
            for (int k = 0; k < 4; ++k) {
                DOSSR_UNROLL
                for (int c = 0; c < 3; ++c) planes[c].v[k] = fraction_by_reciprocal(pixels.at(k, channels == 1 ? 0 : c));
            }
        } else {
            DOSSR_UNROLL
            for (int k = 0; k < 4; ++k) {
                const Sample* const pixel = row + reflected(x0 + x + k, source_width) * channels;
                DOSSR_UNROLL
                for (int c = 0; c < 3; ++c) planes[c].v[k] = fraction_by_reciprocal(pixel[channels == 1 ? 0 : c]);
            }
        }
        float* const place = out + std::int64_t{y} * width + x;
        DOSSR_UNROLL
        for (int c = 0; c < 3; ++c) store(place + c * plane, planes[c], count);
    }
}

}  // namespace

template <typename Sample>
void cuda::image_to_planar(cudaStream_t stream, const Sample* in, int channels, std::int64_t source_height,
                           std::int64_t source_width, float* out, std::int64_t height, std::int64_t width, std::int64_t y,
                           std::int64_t x) {
    const auto columns = static_cast<unsigned>((width - 1) / (kColumns * 4) + 1);
    const auto rows = static_cast<unsigned>((height - 1) / kRows + 1);
    const dim3 grid(columns, rows < kMostRows ? rows : kMostRows), block(kColumns, kRows);
    const auto kernel = channels == 1   ? image_to_planar_kernel<Sample, 1>
                        : channels == 3 ? image_to_planar_kernel<Sample, 3>
                                        : image_to_planar_kernel<Sample, 4>;
    DOSSR_LAUNCH(kernel, grid, block, 0, stream, in, static_cast<int>(source_height), static_cast<int>(source_width),
                 out, static_cast<int>(height), static_cast<int>(width), static_cast<int>(y), static_cast<int>(x));
}

template void cuda::image_to_planar(cudaStream_t, const std::uint8_t*, int, std::int64_t, std::int64_t, float*,
                                    std::int64_t, std::int64_t, std::int64_t, std::int64_t);
template void cuda::image_to_planar(cudaStream_t, const std::uint16_t*, int, std::int64_t, std::int64_t, float*,
                                    std::int64_t, std::int64_t, std::int64_t, std::int64_t);

}  // namespace dossr
