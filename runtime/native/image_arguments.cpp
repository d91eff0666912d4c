#include "image_arguments.h"

namespace nb = nanobind;

namespace dossr {
namespace {

[[noreturn]] void wrong_value(const std::string& text) { throw nb::value_error(text.c_str()); }

}  // namespace

bool is_sample(Dtype dtype) { return dtype == Dtype::uint8 || dtype == Dtype::uint16; }

float* item_of(const char* name, const Tensor& tensor, nb::handle item) {
    const std::int64_t batch = tensor.shape()[0];
    if (batch == 0) wrong_value(std::string(name) + ": expected at least one picture, got " + tensor.describe());
    return tensor.as<float>() + integer("item", item, 0, batch - 1) * (tensor.size() / batch);
}

float* picture_of(const char* name, const Tensor& planes, nb::handle item) {
    require_dtype(name, planes, Dtype::float32);
    require_rank(name, planes, 4, "[B, 3, H, W]");
    if (planes.shape()[1] != 3) {
        wrong_value(std::string(name) + ": expected float32 [B, 3, H, W], got " + planes.describe());
    }
    return item_of(name, planes, item);
}

void require_pixels(Dtype dtype, const Shape& shape, const std::string& description) {
    const std::string expected = "src: expected uint8 or uint16 [h, w, 1, 3 or 4]";
    if (!is_sample(dtype)) throw nb::type_error((expected + ", got " + description).c_str());
    if (shape.size() != 3 || shape[0] < 1 || shape[1] < 1 || (shape[2] != 1 && shape[2] != 3 && shape[2] != 4)) {
        wrong_value(expected + " with h and w of 1 or more, got " + description);
    }
}

void require_room(const Shape& shape, const std::string& description, const Tensor& out) {
    if (out.shape()[2] < shape[0] || out.shape()[3] < shape[1]) {
        wrong_value("out: expected sides no smaller than those of src, " + description + ", got " + out.describe());
    }
}

void require_crop(const Tensor& out, const Tensor& src) {
    if (!is_sample(out.dtype())) {
        throw nb::type_error(("out: expected dtype uint8 or uint16, got " + out.describe()).c_str());
    }
    require_rank("out", out, 3, "[h, w, 1 or 3]");
    const Shape& shape = out.shape();
    if ((shape[2] != 1 && shape[2] != 3) || shape[0] > src.shape()[2] || shape[1] > src.shape()[3]) {
        wrong_value("out: expected uint8 or uint16 [h, w, 1 or 3] with sides no larger than those of src, " +
                    src.describe() + ", got " + out.describe());
    }
}

void require_pair(const Tensor& content, const Tensor& style) {
    require_dtype("content", content, Dtype::float32);
    require_rank("content", content, 4, "[B, C, H, W]");
    require_float32("style", style, content.shape());
}

void require_cast(const Tensor& src, const Tensor& out) {
    const bool narrows = src.dtype() == Dtype::float32 && out.dtype() == Dtype::float16;
    const bool widens = src.dtype() == Dtype::float16 && out.dtype() == Dtype::float32;
    if (!narrows && !widens) {
        throw nb::type_error(("src and out: expected float32 and float16 or the other way round, got " +
                              src.describe() + " and " + out.describe())
                                 .c_str());
    }
    if (src.shape() != out.shape()) {
        wrong_value("out: expected the shape of src, " + src.describe() + ", got " + out.describe());
    }
    require_apart({"out", out}, {{"src", src}});
}

BlendShape blend_shape(const Tensor& tile, const Tensor& canvas, const Tensor& window_y, const Tensor& window_x,
                       nb::handle y, nb::handle x) {
    require_dtype("tile", tile, Dtype::float32);
    require_rank("tile", tile, 4, "[B, C, h, w]");
    require_dtype("canvas", canvas, Dtype::float32);
    require_rank("canvas", canvas, 4, "[1, C, H, W]");
    const Shape &part = tile.shape(), &whole = canvas.shape();
    if (whole[0] != 1 || whole[1] != part[1] || whole[2] < part[2] || whole[3] < part[3]) {
        wrong_value("canvas: expected float32 [1, C, H, W] with the channels of tile and sides no smaller, " +
                    tile.describe() + ", got " + canvas.describe());
    }
    require_float32("window_y", window_y, {part[2]});
    require_float32("window_x", window_x, {part[3]});
    require_apart({"canvas", canvas}, {{"tile", tile}, {"window_y", window_y}, {"window_x", window_x}});
    return {part[1],  part[2],
            part[3],  whole[2],
            whole[3], integer("y", y, 0, whole[2] - part[2]),
            integer("x", x, 0, whole[3] - part[3])};
}

BlendShape take_shape(const Tensor& canvas, const Tensor& tile, nb::handle y, nb::handle x) {
    require_dtype("canvas", canvas, Dtype::float32);
    require_rank("canvas", canvas, 4, "[1, C, H, W]");
    require_dtype("tile", tile, Dtype::float32);
    require_rank("tile", tile, 4, "[B, C, h, w]");
    const Shape &part = tile.shape(), &whole = canvas.shape();
    if (whole[0] != 1 || whole[1] != part[1]) {
        wrong_value("canvas: expected float32 [1, C, H, W] with the channels of tile, " + tile.describe() + ", got " +
                    canvas.describe());
    }
    require_apart({"tile", tile}, {{"canvas", canvas}});
    return {part[1], part[2], part[3], whole[2], whole[3], integer("y", y, 0, whole[2]), integer("x", x, 0, whole[3])};
}

void require_moments(const Tensor& tile, const Tensor& sums, const Tensor& window_y, const Tensor& window_x) {
    require_dtype("tile", tile, Dtype::float32);
    require_rank("tile", tile, 4, "[B, C, h, w]");
    const Shape& shape = tile.shape();
    require_dtype("sums", sums, Dtype::float64);
    if (sums.shape() != Shape{shape[1], 2}) {
        wrong_value("sums: expected float64 [C, 2] with the channels of tile, " + tile.describe() + ", got " +
                    sums.describe());
    }
    require_float32("window_y", window_y, {shape[2]});
    require_float32("window_x", window_x, {shape[3]});
    require_apart({"sums", sums}, {{"tile", tile}, {"window_y", window_y}, {"window_x", window_x}});
}

void require_moves(const Tensor& planes, const Tensor& moves) {
    require_dtype("planes", planes, Dtype::float32);
    require_rank("planes", planes, 4, "[B, C, H, W]");
    require_float32("moves", moves, {planes.shape()[1], 3});
    require_apart({"planes", planes}, {{"moves", moves}});
}

}  // namespace dossr
