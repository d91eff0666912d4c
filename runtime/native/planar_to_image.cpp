#include "planar_to_image.h"

#include <algorithm>

#include "largest.h"
#include "parallel.h"
#include "pixel_math.h"
#include "simd.h"

namespace dossr {
namespace {

constexpr std::int64_t kStrip = 256;

template <typename Sample>
DOSSR_INLINE std::int32_t quantise(const float* __restrict plane, Sample* __restrict out, std::int64_t count) {
    std::int32_t largest = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        out[i] = quantised<Sample>(clamped(plane[i]));
        largest = larger(largest, magnitude(plane[i]));
    }
    return largest;
}

template <typename Sample>
DOSSR_INLINE std::int32_t grey_row(const float* planes, std::int64_t plane, Sample* out, std::int64_t width) {
    std::int32_t largest = 0;
    for (std::int64_t x = 0; x < width; ++x) {
        const float red = planes[x], green = planes[x + plane], blue = planes[x + 2 * plane];
        out[x] = quantised<Sample>(luma(clamped(red), clamped(green), clamped(blue)));
        largest = larger(largest, larger(magnitude(red), larger(magnitude(green), magnitude(blue))));
    }
    return largest;
}

template <typename Sample>
DOSSR_INLINE std::int32_t row_of(const float* planes, std::int64_t plane, Sample* out, std::int64_t width,
                                  int channels) {
    if (channels == 1) return grey_row(planes, plane, out, width);
    Sample strip[3][kStrip];
    std::int32_t largest = 0;
    for (std::int64_t x = 0; x < width; x += kStrip) {
        const std::int64_t count = std::min(kStrip, width - x);
        for (int c = 0; c < 3; ++c) {
            largest = larger(largest, quantise(planes + c * plane + x, strip[c], count));
        }
        for (std::int64_t i = 0; i < count; ++i) {
            for (int c = 0; c < 3; ++c) out[3 * (x + i) + c] = strip[c][i];
        }
    }
    return largest;
}

template <typename Sample>
std::int32_t row_baseline(const float* planes, std::int64_t plane, Sample* out, std::int64_t width, int channels) {
    return row_of(planes, plane, out, width, channels);
}
#if DOSSR_X86_DISPATCH
template <typename Sample>
DOSSR_AVX2 std::int32_t row_avx2(const float* planes, std::int64_t plane, Sample* out, std::int64_t width,
                                  int channels) {
    return row_of(planes, plane, out, width, channels);
}
#else
template <typename Sample>
constexpr auto row_avx2 = row_baseline<Sample>;
#endif

}  // namespace

template <typename Sample>
float planar_to_image(const PlaneSource& source, Sample* out, std::int64_t height, std::int64_t width,
                      int channels) noexcept {
    const auto row = use_avx2() ? row_avx2<Sample> : row_baseline<Sample>;
    const std::int64_t plane = source.height * source.width;
    Largest largest;
    parallel_for(height, row_grain(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t y = begin; y < end; ++y) {
            largest.include(row(source.data + y * source.width, plane, out + channels * y * width, width, channels));
        }
    });
    return largest.value();
}

template float planar_to_image(const PlaneSource&, std::uint8_t*, std::int64_t, std::int64_t, int) noexcept;
template float planar_to_image(const PlaneSource&, std::uint16_t*, std::int64_t, std::int64_t, int) noexcept;

}  // namespace dossr
