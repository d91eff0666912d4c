#include <array>

#include "arguments.h"
#include "bindings.h"
#include "philox.h"
#include "philox_normal.h"
#include "torch_generator.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace dossr {
namespace {

constexpr std::int64_t kWord = 0xffffffff;

template <std::size_t count>
std::array<std::uint32_t, count> words(const char* name, nb::handle value) {
    nb::tuple items;
    if (!nb::try_cast(value, items) || nb::len(items) != count) {
        throw nb::type_error(
            (std::string(name) + ": expected a tuple of " + std::to_string(count) + " integers").c_str());
    }
    std::array<std::uint32_t, count> result{};
    for (std::size_t i = 0; i < count; ++i) {
        result[i] = static_cast<std::uint32_t>(integer(name, items[i], 0, kWord));
    }
    return result;
}

nb::tuple philox_words(nb::handle counter, nb::handle key) {
    const auto c = words<4>("counter", counter);
    const auto k = words<2>("key", key);
    const Words4 out = philox_4x32_10({c[0], c[1], c[2], c[3]}, k[0], k[1]);
    return nb::make_tuple(out.w0, out.w1, out.w2, out.w3);
}

void fill_philox(const Tensor& out, nb::handle seed, nb::handle draw, nb::handle y0, nb::handle x0) {
    require_host({{"out", out}});
    require_dtype("out", out, Dtype::float32);
    require_rank("out", out, 4, "[B, C, H, W]");
    const Shape& shape = out.shape();
    for (const std::int64_t side : shape) {
        if (side > kWord) throw nb::value_error(("out: sides must be below 2**32, got " + out.describe()).c_str());
    }
    const NoiseWindow window{seed_bits(seed), static_cast<std::uint32_t>(integer("draw", draw, 0, kWord)),
                             static_cast<std::uint32_t>(integer("y0", y0, 0, kWord + 1 - shape[2])),
                             static_cast<std::uint32_t>(integer("x0", x0, 0, kWord + 1 - shape[3]))};
    nb::gil_scoped_release released;
    philox_normal(out.as<float>(), shape[0], shape[1], shape[2], shape[3], window);
}

void fill_torch(TorchCpuGenerator& generator, const Tensor& out) {
    require_host({{"out", out}});
    require_dtype("out", out, Dtype::float32);
    nb::gil_scoped_release released;
    generator.normal(out.as<float>(), out.size());
}

}  // namespace

void bind_noise(nb::module_& module) {
    module.def("philox_4x32_10", &philox_words, "counter"_a.none(), "key"_a.none());
    module.def("philox_normal", &fill_philox, "out"_a, "seed"_a.none(), "draw"_a.none(),
               "y0"_a.none() = 0, "x0"_a.none() = 0);
    nb::class_<TorchCpuGenerator>(module, "TorchCpuGenerator", nb::is_final())
        .def(nb::new_([](nb::handle seed) { return new TorchCpuGenerator(seed_bits(seed)); }), "seed"_a.none())
        .def("normal", &fill_torch, "out"_a);
}

}  // namespace dossr
