#include "bindings.h"
#include "image_arguments.h"
#include "kernels_cuda.h"
#include "stream.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace dossr {
namespace {

constexpr std::int64_t kWord = 0xffffffff;

using List = std::initializer_list<Named>;

// Queues one call's kernels on the stream, without the GIL, and throws what CUDA says of it.
template <typename Launch>
void run(const Stream& stream, const char* doing, Launch&& launch) {
    nb::gil_scoped_release released;
    const DeviceScope scope(stream.device());
    launch(stream.handle());
    check(cudaGetLastError(), doing);
}

// Each of the written shares memory with no other tensor of the call.
void require_all_apart(List written, List read) {
    for (const Named& one : written) {
        for (const Named* other = written.begin(); other != &one; ++other) require_apart(one, {*other});
        require_apart(one, read);
    }
}

void require_sides(const char* name, const Tensor& tensor, std::int64_t most) {
    for (const std::int64_t side : tensor.shape()) {
        if (side > most) {
            throw nb::value_error((std::string(name) + ": expected sides of at most " + std::to_string(most) +
                                   ", got " + tensor.describe())
                                      .c_str());
        }
    }
}

// float32 of one axis with at least `least` elements.
void require_vector(const char* name, const Tensor& tensor, std::int64_t least) {
    require_dtype(name, tensor, Dtype::float32);
    if (tensor.shape().size() != 1 || tensor.size() < least) {
        throw nb::value_error((std::string(name) + ": expected float32 of one axis and at least " +
                               std::to_string(least) + " elements, got " + tensor.describe())
                                  .c_str());
    }
}

const std::int64_t* seed_of(const Tensor& seed) {
    require_dtype("seed", seed, Dtype::int64);
    if (seed.shape() != Shape{1}) {
        throw nb::value_error(("seed: expected int64 [1], got " + seed.describe()).c_str());
    }
    return seed.as<std::int64_t>();
}

DevicePlan plan_of(const Tensor& plan, const Tensor& seed, const Tensor& timestep, const Tensor& largest) {
    require_dtype("plan", plan, Dtype::float32);
    if (plan.shape().size() != 2 || plan.shape()[0] < 2 || plan.shape()[1] != kPlanColumns) {
        throw nb::value_error(("plan: expected float32 [N + 1, " + std::to_string(kPlanColumns) +
                               "] of 1 step or more, got " + plan.describe())
                                  .c_str());
    }
    require_float32("timestep", timestep, {1});
    require_vector("largest", largest, plan.shape()[0]);
    return {plan.as<float>(), plan.shape()[0], seed_of(seed), timestep.as<float>(), largest.as<float>()};
}

// Of a tensor that noise is drawn for: its sides count. Else elements are all there is to it.
ImageShape shape_for(const char* name, const Tensor& tensor, bool drawn) {
    if (!drawn) return {1, 1, 1, tensor.size()};
    require_rank(name, tensor, 4, "[B, C, H, W]");
    require_sides(name, tensor, kWord);
    const Shape& shape = tensor.shape();
    return {shape[0], shape[1], shape[2], shape[3]};
}

void cast_tensor(const Stream& stream, const Tensor& src, const Tensor& out) {
    require_device(stream.device(), {{"src", src}, {"out", out}});
    require_cast(src, out);
    run(stream, "launching cast", [&](cudaStream_t on) {
        if (src.dtype() == Dtype::float32) {
            cuda::cast(on, src.as<float>(), out.as<std::uint16_t>(), src.size());
        } else {
            cuda::cast(on, src.as<std::uint16_t>(), out.as<float>(), src.size());
        }
    });
}

void fill_philox(const Stream& stream, const Tensor& out, const Tensor& seed, nb::handle draw, nb::handle y0,
                 nb::handle x0) {
    require_device(stream.device(), {{"out", out}, {"seed", seed}});
    require_dtype("out", out, Dtype::float32);
    const ImageShape shape = shape_for("out", out, true);
    const std::int64_t* const bits = seed_of(seed);
    require_apart({"out", out}, {{"seed", seed}});
    const auto number = static_cast<std::uint32_t>(integer("draw", draw, 0, kWord));
    const auto top = static_cast<std::uint32_t>(integer("y0", y0, 0, kWord + 1 - shape.height));
    const auto left = static_cast<std::uint32_t>(integer("x0", x0, 0, kWord + 1 - shape.width));
    run(stream, "launching philox_normal", [&](cudaStream_t on) {
        cuda::philox_normal(on, out.as<float>(), shape, bits, number, top, left);
    });
}

void start_latent(const Stream& stream, const Tensor& x, const Tensor& x0_hat, const Tensor& mean, const Tensor& std,
                  nb::handle noise, const Tensor& plan, const Tensor& seed, const Tensor& timestep,
                  const Tensor& largest) {
    const List written{{"x", x}, {"x0_hat", x0_hat}, {"timestep", timestep}, {"largest", largest}};
    const List read{{"latent_mean", mean}, {"latent_std", std}, {"plan", plan}, {"seed", seed}};
    require_device(stream.device(), written);
    require_device(stream.device(), read);
    require_dtype("x", x, Dtype::float32);
    require_float32("x0_hat", x0_hat, x.shape());
    require_float32("latent_mean", mean, x.shape());
    require_float32("latent_std", std, x.shape());
    const DevicePlan table = plan_of(plan, seed, timestep, largest);
    require_all_apart(written, read);
    StartArrays arrays{x.as<float>(), x0_hat.as<float>(), mean.as<float>(), std.as<float>(), nullptr, nullptr};
    if (!noise.is_none()) {
        const std::vector<nb::object> pair = items_of("noise", noise, 2);
        if (pair.size() != 2) throw nb::value_error("noise: expected None or a pair of tensors, got a single one");
        const Tensor &posterior = tensor_in("noise[0]", pair[0]), &first = tensor_in("noise[1]", pair[1]);
        const List drawn{{"noise[0]", posterior}, {"noise[1]", first}};
        require_device(stream.device(), drawn);
        require_float32("noise[0]", posterior, x.shape());
        require_float32("noise[1]", first, x.shape());
        require_all_apart(written, drawn);
        arrays.noise_posterior = posterior.as<float>();
        arrays.noise_start = first.as<float>();
    }
    const ImageShape shape = shape_for("x", x, noise.is_none());
    run(stream, "launching start", [&](cudaStream_t on) { cuda::start(on, arrays, shape, table); });
}

void step(const Stream& stream, const Tensor& x, const Tensor& output, const Tensor& x0_hat, nb::handle predictions,
          const Tensor* noise, const Tensor& plan, nb::handle row, const Tensor& seed, const Tensor& timestep,
          const Tensor& largest) {
    const std::vector<nb::object> ring = items_of("predictions", predictions, 3);
    if (ring.empty()) throw nb::value_error("predictions: expected 1 to 3 tensors, got none");
    const Tensor& newest = tensor_in("predictions[0]", ring[0]);
    const List written{{"x", x}, {"predictions[0]", newest}, {"timestep", timestep}, {"largest", largest}};
    const List read{{"output", output}, {"x0_hat", x0_hat}, {"plan", plan}, {"seed", seed}};
    require_device(stream.device(), written);
    require_device(stream.device(), read);
    require_dtype("x", x, Dtype::float32);
    require_float32("output", output, x.shape());
    require_float32("x0_hat", x0_hat, x.shape());
    require_float32("predictions[0]", newest, x.shape());
    const DevicePlan table = plan_of(plan, seed, timestep, largest);
    const std::int64_t number = integer("row", row, 1, table.count - 1);
    require_all_apart(written, read);
    StepArrays arrays{x.as<float>(),      output.as<float>(), x0_hat.as<float>(), newest.as<float>(), nullptr,
                      nullptr,            nullptr,            static_cast<int>(ring.size())};
    const auto also_read = [&](const char* name, const Tensor& tensor) {
        require_device(stream.device(), {{name, tensor}});
        require_float32(name, tensor, x.shape());
        require_all_apart(written, {{name, tensor}});
        return tensor.as<float>();
    };
    if (ring.size() > 1) arrays.previous = also_read("predictions[1]", tensor_in("predictions[1]", ring[1]));
    if (ring.size() > 2) arrays.before = also_read("predictions[2]", tensor_in("predictions[2]", ring[2]));
    if (noise != nullptr) arrays.noise = also_read("noise", *noise);
    const ImageShape shape = shape_for("x", x, noise == nullptr);
    run(stream, "launching solver_step",
        [&](cudaStream_t on) { cuda::solver_step(on, arrays, shape, table, number); });
}

// As of bind_image.cpp.
void convert_pixels(const Stream& stream, const Tensor& src, const Tensor& out, nb::handle item, std::int64_t y,
                    std::int64_t x, bool whole) {
    require_device(stream.device(), {{"src", src}, {"out", out}});
    float* const picture = picture_of("out", out, item);
    const Shape &from = src.shape(), &to = out.shape();
    require_pixels(src.dtype(), from, src.describe());
    if (whole) require_room(from, src.describe(), out);
    require_sides("src", src, kMostSide);
    require_sides("out", out, kMostSide);
    require_apart({"out", out}, {{"src", src}});
    run(stream, "launching image_to_planar", [&](cudaStream_t on) {
        const auto convert = [&](const auto* pixels) {
            cuda::image_to_planar(on, pixels, static_cast<int>(from[2]), from[0], from[1], picture, to[2], to[3], y,
                                  x);
        };
        src.dtype() == Dtype::uint8 ? convert(src.as<std::uint8_t>()) : convert(src.as<std::uint16_t>());
    });
}

void to_planar(const Stream& stream, const Tensor& src, const Tensor& out, nb::handle item) {
    convert_pixels(stream, src, out, item, 0, 0, true);
}

void crop(const Stream& stream, const Tensor& src, nb::handle y, nb::handle x, const Tensor& out, nb::handle item) {
    convert_pixels(stream, src, out, item, integer("y", y, 0, kMostSide / 2), integer("x", x, 0, kMostSide / 2), false);
}

void to_image(const Stream& stream, const Tensor& src, const Tensor& out, const Tensor& largest, nb::handle index,
              nb::handle item) {
    require_device(stream.device(), {{"src", src}, {"out", out}, {"largest", largest}});
    const float* const planes = picture_of("src", src, item);
    require_crop(out, src);
    require_vector("largest", largest, 1);
    float* const seen = largest.as<float>() + integer("index", index, 0, largest.size() - 1);
    require_all_apart({{"out", out}, {"largest", largest}}, {{"src", src}});
    const Shape &from = src.shape(), &to = out.shape();
    run(stream, "launching planar_to_image", [&](cudaStream_t on) {
        const auto convert = [&](auto* pixels) {
            cuda::planar_to_image(on, planes, from[2], from[3], pixels, static_cast<int>(to[2]), to[0], to[1], seen);
        };
        out.dtype() == Dtype::uint8 ? convert(out.as<std::uint8_t>()) : convert(out.as<std::uint16_t>());
    });
}

void wavelet(const Stream& stream, const Tensor& content, const Tensor& style, const Tensor& out) {
    require_device(stream.device(), {{"content", content}, {"style", style}, {"out", out}});
    require_pair(content, style);
    require_float32("out", out, content.shape());
    require_sides("content", content, kMostSide);
    require_apart({"out", out}, {{"content", content}, {"style", style}});
    const Shape& shape = content.shape();
    run(stream, "launching wavelet_fix", [&](cudaStream_t on) {
        cuda::wavelet_fix(on, content.as<float>(), style.as<float>(), out.as<float>(), shape[0] * shape[1], shape[2],
                          shape[3]);
    });
}

std::int64_t adain_work(nb::handle sides) {
    const Shape shape = shape_of(sides);
    if (shape.size() != 4) throw nb::value_error("shape: expected the four sides [B, C, H, W]");
    return cuda::adain_work(shape[0] * shape[1], shape[2] * shape[3]);
}

void adain(const Stream& stream, const Tensor& content, const Tensor& style, const Tensor& out, const Tensor& work) {
    require_device(stream.device(), {{"content", content}, {"style", style}, {"out", out}, {"work", work}});
    require_pair(content, style);
    require_float32("out", out, content.shape());
    require_dtype("work", work, Dtype::float64);
    const Shape& shape = content.shape();
    const std::int64_t planes = shape[0] * shape[1], size = shape[2] * shape[3];
    if (work.size() < cuda::adain_work(planes, size)) {
        throw nb::value_error(("work: expected at least adain_work(content.shape) = " +
                               std::to_string(cuda::adain_work(planes, size)) + " elements, got " + work.describe())
                                  .c_str());
    }
    require_all_apart({{"out", out}, {"work", work}}, {{"content", content}, {"style", style}});
    run(stream, "launching adain_fix", [&](cudaStream_t on) {
        cuda::adain_fix(on, content.as<float>(), style.as<float>(), out.as<float>(), planes, size, work.as<double>());
    });
}

void blend(const Stream& stream, const Tensor& tile, const Tensor& canvas, const Tensor& window_y,
           const Tensor& window_x, nb::handle y, nb::handle x, nb::handle item) {
    require_device(stream.device(),
                   {{"tile", tile}, {"canvas", canvas}, {"window_y", window_y}, {"window_x", window_x}});
    const BlendShape shape = blend_shape(tile, canvas, window_y, window_x, y, x);
    require_sides("canvas", canvas, kMostSide);
    const float* const picture = item_of("tile", tile, item);
    run(stream, "launching tile_blend", [&](cudaStream_t on) {
        cuda::tile_blend(on, picture, canvas.as<float>(), window_y.as<float>(), window_x.as<float>(), shape);
    });
}

void take(const Stream& stream, const Tensor& canvas, const Tensor& tile, nb::handle y, nb::handle x,
          nb::handle item) {
    require_device(stream.device(), {{"canvas", canvas}, {"tile", tile}});
    const BlendShape shape = take_shape(canvas, tile, y, x);
    require_sides("canvas", canvas, kMostSide);
    require_sides("tile", tile, kMostSide);
    float* const picture = item_of("tile", tile, item);
    run(stream, "launching tile_take",
        [&](cudaStream_t on) { cuda::tile_take(on, canvas.as<float>(), picture, shape); });
}

void match(const Stream& stream, const Tensor& planes, const Tensor& moves) {
    require_device(stream.device(), {{"planes", planes}, {"moves", moves}});
    require_moves(planes, moves);
    const Shape& shape = planes.shape();
    run(stream, "launching match_planes", [&](cudaStream_t on) {
        cuda::match_planes(on, planes.as<float>(), moves.as<float>(), shape[0], shape[1], shape[2] * shape[3]);
    });
}

}  // namespace

void bind_cuda_kernels(nb::module_& cuda) {
    cuda.def("cast", &cast_tensor, "stream"_a, "src"_a, "out"_a);
    cuda.def("philox_normal", &fill_philox, "stream"_a, "out"_a, "seed"_a, "draw"_a.none(), "y0"_a.none() = 0,
             "x0"_a.none() = 0);
    cuda.def("start", &start_latent, "stream"_a, "x"_a, "x0_hat"_a, "latent_mean"_a, "latent_std"_a,
             "noise"_a.none(), "plan"_a, "seed"_a, "timestep"_a, "largest"_a);
    cuda.def("solver_step", &step, "stream"_a, "x"_a, "output"_a, "x0_hat"_a, "predictions"_a.none(),
             "noise"_a.none(), "plan"_a, "row"_a.none(), "seed"_a, "timestep"_a, "largest"_a);
    cuda.def("image_to_planar", &to_planar, "stream"_a, "src"_a, "out"_a, "item"_a.none() = 0);
    cuda.def("planar_to_image", &to_image, "stream"_a, "src"_a, "out"_a, "largest"_a, "index"_a.none(),
             "item"_a.none() = 0);
    cuda.def("wavelet_fix", &wavelet, "stream"_a, "content"_a, "style"_a, "out"_a);
    cuda.def("adain_work", &adain_work, "shape"_a.none());
    cuda.def("adain_fix", &adain, "stream"_a, "content"_a, "style"_a, "out"_a, "work"_a);
    cuda.def("crop_to_planar", &crop, "stream"_a, "src"_a, "y"_a.none(), "x"_a.none(), "out"_a, "item"_a.none() = 0);
    cuda.def("tile_take", &take, "stream"_a, "canvas"_a, "tile"_a, "y"_a.none(), "x"_a.none(), "item"_a.none() = 0);
    cuda.def("match_planes", &match, "stream"_a, "planes"_a, "moves"_a);
    cuda.def("tile_blend", &blend, "stream"_a, "tile"_a, "canvas"_a, "window_y"_a, "window_x"_a, "y"_a.none(),
             "x"_a.none(), "item"_a.none() = 0);
}

}  // namespace dossr
