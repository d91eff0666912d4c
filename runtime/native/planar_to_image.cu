#include "kernel_parts.h"
#include "pixel_math.h"

namespace dossr {
namespace {

constexpr int kThreads = 256;
constexpr int kPixels = kThreads * 4;  // of a block

// The picture is one row of pixels for the blocks: what a block writes begins at a multiple of 16 bytes for any width. It
// is put together in shared memory, since a pixel of three samples is no power of two.
template <typename Sample, int channels>
__global__ void __launch_bounds__(kThreads)
    planar_to_image_kernel(const float* __restrict__ in, std::int64_t source_width, std::int64_t plane,
                           Sample* __restrict__ out, std::int64_t pixels, std::int64_t width,
                           float* __restrict__ largest, bool wide) {
    DOSSR_SHARED(Sample, staged, kPixels* channels);
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t block_begin = std::int64_t{blockIdx.x} * kPixels, begin = block_begin + thread * 4;
    std::int32_t found = 0;
    if (begin < pixels) {
        const int count = up_to_four(pixels, begin);
        const auto y = static_cast<std::int64_t>(static_cast<std::uint64_t>(begin) / static_cast<std::uint64_t>(width));
        const std::int64_t x = begin - y * width;
        const float* const first = in + y * source_width + x;
        Quad planes[3];
        if (x + count <= width) {
            DOSSR_UNROLL
            for (int c = 0; c < 3; ++c) planes[c] = load(first + c * plane, count);
        } else {
            // The row ends within the four, and the next ones begin.
            const float* place = first;
            std::int64_t column = x;
            DOSSR_UNROLL
            for (int k = 0; k < 4; ++k) {
                DOSSR_UNROLL
                for (int c = 0; c < 3; ++c) planes[c].v[k] = k < count ? place[c * plane] : 0.0f;
                ++place;
                if (++column == width) {
                    column = 0;
                    place += source_width - width;
                }
            }
        }
        DOSSR_UNROLL
        for (int k = 0; k < 4; ++k) {
            const float red = planes[0].v[k], green = planes[1].v[k], blue = planes[2].v[k];
            found = larger(found, larger(magnitude(red), larger(magnitude(green), magnitude(blue))));
            Sample* const pixel = staged + (thread * 4 + k) * channels;
            if (channels == 1) {
                pixel[0] = quantised<Sample>(luma(clamped(red), clamped(green), clamped(blue)));
            } else {
                DOSSR_UNROLL
                for (int c = 0; c < channels; ++c) pixel[c] = quantised<Sample>(clamped(planes[c].v[k]));
            }
        }
    }
    include_largest<kThreads>(largest, found);  // all threads have staged when this returns

    constexpr int kInVector = 16 / static_cast<int>(sizeof(Sample));
    const std::int64_t left = pixels - block_begin;
    const int samples = static_cast<int>(left < kPixels ? left : kPixels) * channels;
    const int vectors = wide ? samples / kInVector : 0;
    Sample* const to = out + block_begin * channels;
    DOSSR_UNROLL
    for (int first = 0; first < kPixels * channels / kInVector; first += kThreads) {
        const int i = first + thread;
        if (i < vectors) reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(staged)[i];
    }
    for (int i = vectors * kInVector + thread; i < samples; i += kThreads) to[i] = staged[i];
}

}  // namespace

template <typename Sample>
void cuda::planar_to_image(cudaStream_t stream, const float* in, std::int64_t source_height, std::int64_t source_width,
                           Sample* out, int channels, std::int64_t height, std::int64_t width, float* largest) {
    const std::int64_t pixels = height * width;
    if (pixels == 0) return;
    const auto blocks = static_cast<unsigned>((pixels - 1) / kPixels + 1);
    const auto kernel = channels == 1 ? planar_to_image_kernel<Sample, 1> : planar_to_image_kernel<Sample, 3>;
    DOSSR_LAUNCH(kernel, blocks, kThreads, 0, stream, in, source_width, source_height * source_width, out, pixels,
                 width, largest, aligned16(out));
}

template void cuda::planar_to_image(cudaStream_t, const float*, std::int64_t, std::int64_t, std::uint8_t*, int,
                                    std::int64_t, std::int64_t, float*);
template void cuda::planar_to_image(cudaStream_t, const float*, std::int64_t, std::int64_t, std::uint16_t*, int,
                                    std::int64_t, std::int64_t, float*);

}  // namespace dossr
