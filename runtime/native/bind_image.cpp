#include "adain_fix.h"
#include "arguments.h"
#include "bindings.h"
#include "change_depth.h"
#include "image_to_planar.h"
#include "planar_to_image.h"
#include "wavelet_fix.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace dossr {
namespace {

// [1, 3, H, W] float32, or an error.
void require_planes(const char* name, const Tensor& planes) {
    require_dtype(name, planes, Dtype::float32);
    require_rank(name, planes, 4, "[1, 3, H, W]");
    if (planes.shape()[0] != 1 || planes.shape()[1] != 3) {
        throw nb::value_error(
            (std::string(name) + ": expected float32 [1, 3, H, W], got " + planes.describe()).c_str());
    }
}

bool is_sample(Dtype dtype) { return dtype == Dtype::uint8 || dtype == Dtype::uint16; }

void to_planar(nb::handle src, const Tensor& out) {
    require_planes("out", out);
    const ForeignArray pixels(src, "src");
    const Shape& shape = pixels.shape();
    const std::string expected = "src: expected uint8 or uint16 [h, w, 1, 3 or 4]";
    if (!is_sample(pixels.dtype())) throw nb::type_error((expected + ", got " + pixels.describe()).c_str());
    if (shape.size() != 3 || shape[0] < 1 || shape[1] < 1 || (shape[2] != 1 && shape[2] != 3 && shape[2] != 4)) {
        throw nb::value_error((expected + " with h and w of 1 or more, got " + pixels.describe()).c_str());
    }
    const std::int64_t height = out.shape()[2], width = out.shape()[3];
    if (height < shape[0] || width < shape[1]) {
        throw nb::value_error(
            ("out: expected sides no smaller than those of src, " + pixels.describe() + ", got " + out.describe())
                .c_str());
    }
    require_apart({"out", out}, "src", pixels);
    const auto& strides = pixels.byte_strides();
    const std::int64_t channel_stride = shape[2] == 1 ? 0 : strides[2];
    const PixelSource source{pixels.data(), shape[0], shape[1], strides[0], strides[1], channel_stride};
    const auto convert =
        pixels.dtype() == Dtype::uint8 ? image_to_planar<std::uint8_t> : image_to_planar<std::uint16_t>;
    nb::gil_scoped_release released;
    convert(source, out.as<float>(), height, width);
}

float to_image(const Tensor& src, const Tensor& out) {
    require_planes("src", src);
    if (!is_sample(out.dtype())) {
        throw nb::type_error(("out: expected dtype uint8 or uint16, got " + out.describe()).c_str());
    }
    require_rank("out", out, 3, "[h, w, 1 or 3]");
    const std::int64_t height = out.shape()[0], width = out.shape()[1], channels = out.shape()[2];
    if ((channels != 1 && channels != 3) || height > src.shape()[2] || width > src.shape()[3]) {
        throw nb::value_error(("out: expected uint8 or uint16 [h, w, 1 or 3] with sides no larger than those of src, " +
                               src.describe() + ", got " + out.describe())
                                  .c_str());
    }
    const PlaneSource planes{src.as<float>(), src.shape()[2], src.shape()[3]};
    nb::gil_scoped_release released;
    return out.dtype() == Dtype::uint8
               ? planar_to_image(planes, out.as<std::uint8_t>(), height, width, static_cast<int>(channels))
               : planar_to_image(planes, out.as<std::uint16_t>(), height, width, static_cast<int>(channels));
}

void depth(const Tensor& src, const Tensor& out) {
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

void require_pair(const Tensor& content, const Tensor& style) {
    require_dtype("content", content, Dtype::float32);
    require_rank("content", content, 4, "[B, C, H, W]");
    require_float32("style", style, content.shape());
}

void wavelet(const Tensor& content, const Tensor& style) {
    require_pair(content, style);
    const Shape& shape = content.shape();
    nb::gil_scoped_release released;
    wavelet_fix(content.as<float>(), style.as<float>(), shape[0] * shape[1], shape[2], shape[3]);
}

void adain(const Tensor& content, const Tensor& style) {
    require_pair(content, style);
    const Shape& shape = content.shape();
    nb::gil_scoped_release released;
    adain_fix(content.as<float>(), style.as<float>(), shape[0] * shape[1], shape[2] * shape[3]);
}

}  // namespace

void bind_image(nb::module_& module) {
    module.def("image_to_planar", &to_planar, "src"_a.none(), "out"_a);
    module.def("planar_to_image", &to_image, "src"_a, "out"_a);
    module.def("change_depth", &depth, "src"_a, "out"_a);
    module.def("wavelet_fix", &wavelet, "content"_a, "style"_a);
    module.def("adain_fix", &adain, "content"_a, "style"_a);
}

}  // namespace dossr
