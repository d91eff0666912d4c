// Checks of images that the kernels of the CPU and those of GPUs share; errors as of arguments.h.
#pragma once

#include "arguments.h"
#include "tile_blend.h"

namespace dossr {

constexpr std::int64_t kMostSide = std::int64_t{1} << 30;  // of what is indexed by 32 bits

bool is_sample(Dtype dtype);  // uint8 or uint16

// The item-th picture of float32 [B, 3, H, W], in the memory of `planes`.
float* picture_of(const char* name, const Tensor& planes, nanobind::handle item);

// Of uint8 or uint16 [h, w, 1, 3 or 4], `description` in words.
void require_pixels(Dtype dtype, const Shape& shape, const std::string& description);

// out [B, 3, H, W] has sides no smaller than those of the pixels.
void require_room(const Shape& shape, const std::string& description, const Tensor& out);

// uint8 or uint16 [h, w, 1 or 3] with sides no larger than those of src [B, 3, H, W].
void require_crop(const Tensor& out, const Tensor& src);

// Two pictures float32 [B, C, H, W].
void require_pair(const Tensor& content, const Tensor& style);

// float32 and float16 or the other way round, of one shape and apart.
void require_cast(const Tensor& src, const Tensor& out);

// Of tile [B, C, h, w], canvas [1, C, H, W], the windows [h] and [w], and a place where the tile lies within; canvas apart.
BlendShape blend_shape(const Tensor& tile, const Tensor& canvas, const Tensor& window_y, const Tensor& window_x,
                       nanobind::handle y, nanobind::handle x);

// The same of a tile that is taken from the canvas, and may reach beyond it; y and x do not.
BlendShape take_shape(const Tensor& canvas, const Tensor& tile, nanobind::handle y, nanobind::handle x);

// float64 [C, 2] and the windows [h] and [w] for tile [B, C, h, w]; sums apart.
void require_moments(const Tensor& tile, const Tensor& sums, const Tensor& window_y, const Tensor& window_x);

// float32 [C, 3] for planes float32 [B, C, H, W], apart.
void require_moves(const Tensor& planes, const Tensor& moves);

// The item-th picture of float32 [B, C, h, w].
float* item_of(const char* name, const Tensor& tensor, nanobind::handle item);

}  // namespace dossr
