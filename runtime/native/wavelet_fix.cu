#include "image_math.h"
#include "kernel_parts.h"

namespace dossr {
namespace {

constexpr int kLevels = 5;
constexpr int kTile = 48;                 // sides of what a block writes
constexpr int kHalo = (1 << kLevels) - 1;  // what all levels together look at around it
constexpr int kLeft = kHalo + 1;          // a column more, so that groups of four stay where they are in the image
constexpr int kPitch = kTile + 2 * kLeft, kHeight = kTile + 2 * kHalo;
constexpr int kBuffer = kPitch * kHeight;
constexpr int kSharedBytes = 2 * kBuffer * static_cast<int>(sizeof(float));
static_assert(kSharedBytes <= 99 * 1024, "the most that a block may have on sm_86, sm_89 and sm_120");
constexpr int kColumns = 32, kRows = 32;  // threads of a block
constexpr unsigned kMostLayers = 65535;   // of a grid

DOSSR_HD int least(int a, int b) { return a < b ? a : b; }
DOSSR_HD int most(int a, int b) { return a > b ? a : b; }

// A plane, and a block's window of it.
struct Window {
    int height, width;  // of the plane
    int y, x;           // of the tile in it
    __device__ __forceinline__ int row_of(int image_y) const { return (image_y - y + kHalo) * kPitch; }
    __device__ __forceinline__ int column_of(int image_x) const { return image_x - x + kLeft; }
};

// One level at (y, x) of the plane, which replicates its borders.
__device__ __forceinline__ float blurred(const float* from, const Window& window, int y, int x, int dilation) {
    const int above = window.row_of(most(y - dilation, 0)), at = window.row_of(y);
    const int below = window.row_of(least(y + dilation, window.height - 1));
    const auto column = [&](int image_x) {
        const int place = window.column_of(image_x);
        return binomial(from[above + place], from[at + place], from[below + place]);
    };
    return binomial(column(most(x - dilation, 0)), column(x), column(least(x + dilation, window.width - 1)));
}

// style - content of the tile and its halo, as far as the plane goes; what is beyond is never read.
__device__ __forceinline__ void load_difference(float* to, const float* content, const float* style,
                                                const Window& window) {
    constexpr int kGroups = kPitch / 4;
    const int thread = static_cast<int>(threadIdx.y * kColumns + threadIdx.x);
    for (int i = thread; i < kGroups * kHeight; i += kColumns * kRows) {
        const int row = i / kGroups, group = i - row * kGroups;
        const int y = window.y - kHalo + row, x = window.x - kLeft + 4 * group;
        if (y < 0 || y >= window.height || x < 0 || x >= window.width) continue;
        const int count = up_to_four(window.width, x);
        const std::int64_t place = std::int64_t{y} * window.width + x;
        const Quad from = load(content + place, count), target = load(style + place, count);
        Quad difference;
        DOSSR_UNROLL
        for (int k = 0; k < 4; ++k) difference.v[k] = add_rn(target.v[k], -from.v[k]);
        // Shared memory: `store` is for global memory alone.
        *reinterpret_cast<float4*>(to + row * kPitch + 4 * group) =
            make_float4(difference.v[0], difference.v[1], difference.v[2], difference.v[3]);
    }
}

__global__ void __launch_bounds__(kColumns* kRows)
    wavelet_fix_kernel(const float* __restrict__ content, const float* __restrict__ style, float* __restrict__ out,
                       std::int64_t planes, int height, int width) {
    DOSSR_DYNAMIC_SHARED(float, buffers);
    const Window window{height, width, static_cast<int>(blockIdx.y) * kTile, static_cast<int>(blockIdx.x) * kTile};
    const std::int64_t plane = std::int64_t{height} * width;
    for (std::int64_t p = blockIdx.z; p < planes; p += gridDim.z) {
        const float* const image = content + p * plane;
        float *from = buffers, *to = buffers + kBuffer;
        load_difference(from, image, style + p * plane, window);
        __syncthreads();
        for (int level = 0; level + 1 < kLevels; ++level) {
            const int dilation = 1 << level;
            const int halo = kHalo + 1 - 2 * dilation;  // what the levels to come look at
            const int bottom = least(window.y + kTile + halo, height), right = least(window.x + kTile + halo, width);
            for (int y = most(window.y - halo, 0) + static_cast<int>(threadIdx.y); y < bottom; y += kRows) {
                for (int x = most(window.x - halo, 0) + static_cast<int>(threadIdx.x); x < right; x += kColumns) {
                    to[window.row_of(y) + window.column_of(x)] = blurred(from, window, y, x, dilation);
                }
            }
            __syncthreads();
            float* const next = from;
            from = to;
            to = next;
        }
        // The last level, four columns a thread.
        constexpr int kGroups = kTile / 4;
        for (int i = static_cast<int>(threadIdx.y * kColumns + threadIdx.x); i < kGroups * kTile;
             i += kColumns * kRows) {
            const int row = i / kGroups, y = window.y + row, x = window.x + 4 * (i - row * kGroups);
            if (y >= height || x >= width) continue;
            const int count = up_to_four(width, x);
            const std::int64_t place = std::int64_t{y} * width + x;
            Quad fixed = load(image + place, count);
            DOSSR_UNROLL
            for (int k = 0; k < 4; ++k) {
                const int column = least(x + k, width - 1);  // beyond the width nothing is stored
                fixed.v[k] = add_rn(fixed.v[k], blurred(from, window, y, column, 1 << (kLevels - 1)));
            }
            store(out + p * plane + place, fixed, count);
        }
        // `from` is the first buffer, which the next plane is loaded into.
        static_assert(kLevels % 2 == 1);
        __syncthreads();
    }
}

}  // namespace

void cuda::wavelet_fix(cudaStream_t stream, const float* content, const float* style, float* out, std::int64_t planes,
                       std::int64_t height, std::int64_t width) {
    if (planes * height * width == 0) return;
    // Of the current device; a refusal is the launch's, too.
    cudaFuncSetAttribute(wavelet_fix_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
    const dim3 grid(static_cast<unsigned>((width - 1) / kTile + 1), static_cast<unsigned>((height - 1) / kTile + 1),
                    static_cast<unsigned>(planes < kMostLayers ? planes : kMostLayers));
    DOSSR_LAUNCH(wavelet_fix_kernel, grid, dim3(kColumns, kRows), kSharedBytes, stream, content, style, out, planes,
                 static_cast<int>(height), static_cast<int>(width));
}

}  // namespace dossr
