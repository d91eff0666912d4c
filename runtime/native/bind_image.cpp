#include "adain_fix.h"
#include "bindings.h"
#include "cast.h"
#include "change_depth.h"
#include "image_arguments.h"
#include "image_to_planar.h"
#include "match_planes.h"
#include "planar_to_image.h"
#include "tile_blend.h"
#include "tile_moments.h"
#include "tile_take.h"
#include "wavelet_fix.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace dossr {
namespace {

// The pixels from (y, x) on, all of which out has room for where `whole`.
void convert_pixels(nb::handle src, const Tensor& out, nb::handle item, std::int64_t y, std::int64_t x, bool whole) {
    require_host({{"out", out}});
    float* const picture = picture_of("out", out, item);
    const ForeignArray pixels(src, "src");
    const Shape& shape = pixels.shape();
    require_pixels(pixels.dtype(), shape, pixels.describe());
    if (whole) require_room(shape, pixels.describe(), out);
    require_apart({"out", out}, "src", pixels);
    const auto& strides = pixels.byte_strides();
    const std::int64_t channel_stride = shape[2] == 1 ? 0 : strides[2];
    const PixelSource source{pixels.data(), shape[0], shape[1], strides[0], strides[1], channel_stride};
    const auto convert =
        pixels.dtype() == Dtype::uint8 ? image_to_planar<std::uint8_t> : image_to_planar<std::uint16_t>;
    nb::gil_scoped_release released;
    convert(source, picture, out.shape()[2], out.shape()[3], y, x);
}

void to_planar(nb::handle src, const Tensor& out, nb::handle item) { convert_pixels(src, out, item, 0, 0, true); }

void crop(nb::handle src, nb::handle y, nb::handle x, const Tensor& out, nb::handle item) {
    convert_pixels(src, out, item, integer("y", y, 0, kMostSide / 2), integer("x", x, 0, kMostSide / 2), false);
}

float to_image(const Tensor& src, const Tensor& out, nb::handle item) {
    require_host({{"src", src}, {"out", out}});
    const PlaneSource planes{picture_of("src", src, item), src.shape()[2], src.shape()[3]};
    require_crop(out, src);
    const std::int64_t height = out.shape()[0], width = out.shape()[1];
    const int channels = static_cast<int>(out.shape()[2]);
    nb::gil_scoped_release released;
    return out.dtype() == Dtype::uint8 ? planar_to_image(planes, out.as<std::uint8_t>(), height, width, channels)
                                       : planar_to_image(planes, out.as<std::uint16_t>(), height, width, channels);
}

void depth(const Tensor& src, const Tensor& out) {
    require_host({{"src", src}, {"out", out}});
    if (!is_sample(src.dtype()) || !is_sample(out.dtype()) || src.dtype() == out.dtype()) {
        throw nb::type_error(("src and out: expected uint8 and uint16 or the other way round, got " + src.describe() +
                              " and " + out.describe())
                                 .c_str());
    }
    if (src.shape() != out.shape()) {
        throw nb::value_error(("out: expected the shape of src, " + src.describe() + ", got " + out.describe()).c_str());
    }
    nb::gil_scoped_release released;
    if (src.dtype() == Dtype::uint8) {
        change_depth(src.as<std::uint8_t>(), out.as<std::uint16_t>(), src.size());
    } else {
        change_depth(src.as<std::uint16_t>(), out.as<std::uint8_t>(), src.size());
    }
}

void wavelet(const Tensor& content, const Tensor& style) {
    require_host({{"content", content}, {"style", style}});
    require_pair(content, style);
    const Shape& shape = content.shape();
    nb::gil_scoped_release released;
    wavelet_fix(content.as<float>(), style.as<float>(), shape[0] * shape[1], shape[2], shape[3]);
}

void adain(const Tensor& content, const Tensor& style) {
    require_host({{"content", content}, {"style", style}});
    require_pair(content, style);
    const Shape& shape = content.shape();
    nb::gil_scoped_release released;
    adain_fix(content.as<float>(), style.as<float>(), shape[0] * shape[1], shape[2] * shape[3]);
}

void cast_tensor(const Tensor& src, const Tensor& out) {
    require_host({{"src", src}, {"out", out}});
    require_cast(src, out);
    nb::gil_scoped_release released;
    if (src.dtype() == Dtype::float32) {
        cast(src.as<float>(), out.as<std::uint16_t>(), src.size());
    } else {
        cast(src.as<std::uint16_t>(), out.as<float>(), src.size());
    }
}

void blend(const Tensor& tile, const Tensor& canvas, const Tensor& window_y, const Tensor& window_x, nb::handle y,
           nb::handle x, nb::handle item) {
    require_host({{"tile", tile}, {"canvas", canvas}, {"window_y", window_y}, {"window_x", window_x}});
    const BlendShape shape = blend_shape(tile, canvas, window_y, window_x, y, x);
    const float* const picture = item_of("tile", tile, item);
    nb::gil_scoped_release released;
    tile_blend(picture, canvas.as<float>(), window_y.as<float>(), window_x.as<float>(), shape);
}

void take(const Tensor& canvas, const Tensor& tile, nb::handle y, nb::handle x, nb::handle item) {
    require_host({{"canvas", canvas}, {"tile", tile}});
    const BlendShape shape = take_shape(canvas, tile, y, x);
    float* const picture = item_of("tile", tile, item);
    nb::gil_scoped_release released;
    tile_take(canvas.as<float>(), picture, shape);
}

void add_moments(const Tensor& tile, const Tensor& sums, const Tensor& window_y, const Tensor& window_x,
                 nb::handle item) {
    require_host({{"tile", tile}, {"sums", sums}, {"window_y", window_y}, {"window_x", window_x}});
    require_moments(tile, sums, window_y, window_x);
    const float* const picture = item_of("tile", tile, item);
    const Shape& shape = tile.shape();
    nb::gil_scoped_release released;
    tile_moments(picture, sums.as<double>(), window_y.as<float>(), window_x.as<float>(), shape[1], shape[2], shape[3]);
}

void match(const Tensor& planes, const Tensor& moves) {
    require_host({{"planes", planes}, {"moves", moves}});
    require_moves(planes, moves);
    const Shape& shape = planes.shape();
    nb::gil_scoped_release released;
    match_planes(planes.as<float>(), moves.as<float>(), shape[0], shape[1], shape[2] * shape[3]);
}

}  // namespace

void bind_image(nb::module_& module) {
    module.def("image_to_planar", &to_planar, "src"_a.none(), "out"_a, "item"_a.none() = 0);
    module.def("planar_to_image", &to_image, "src"_a, "out"_a, "item"_a.none() = 0);
    module.def("change_depth", &depth, "src"_a, "out"_a);
    module.def("wavelet_fix", &wavelet, "content"_a, "style"_a);
    module.def("adain_fix", &adain, "content"_a, "style"_a);
    module.def("cast", &cast_tensor, "src"_a, "out"_a);
    module.def("crop_to_planar", &crop, "src"_a.none(), "y"_a.none(), "x"_a.none(), "out"_a, "item"_a.none() = 0);
    module.def("tile_take", &take, "canvas"_a, "tile"_a, "y"_a.none(), "x"_a.none(), "item"_a.none() = 0);
    module.def("tile_moments", &add_moments, "tile"_a, "sums"_a, "window_y"_a, "window_x"_a, "item"_a.none() = 0);
    module.def("match_planes", &match, "planes"_a, "moves"_a);
    module.def("tile_blend", &blend, "tile"_a, "canvas"_a, "window_y"_a, "window_x"_a, "y"_a.none(), "x"_a.none(),
               "item"_a.none() = 0);
}

}  // namespace dossr
