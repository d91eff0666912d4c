#include "arguments.h"
#include "bindings.h"
#include "solver_step.h"
#include "start.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace dossr {
namespace {

float start_latent(const Tensor& x, const Tensor& x0_hat, const Tensor& mean, const Tensor& std,
                   const Tensor& noise_posterior, const Tensor& noise_start, double c_hat, double c_z) {
    require_host({{"x", x}, {"x0_hat", x0_hat}, {"latent_mean", mean}, {"latent_std", std},
                  {"noise_posterior", noise_posterior}, {"noise_start", noise_start}});
    require_dtype("x", x, Dtype::float32);
    require_float32("x0_hat", x0_hat, x.shape());
    require_float32("latent_mean", mean, x.shape());
    require_float32("latent_std", std, x.shape());
    require_float32("noise_posterior", noise_posterior, x.shape());
    require_float32("noise_start", noise_start, x.shape());
    const Named written{"x0_hat", x0_hat};
    const std::initializer_list<Named> read{
        {"latent_mean", mean}, {"latent_std", std}, {"noise_posterior", noise_posterior}, {"noise_start", noise_start}};
    require_apart({"x", x}, {written});
    require_apart({"x", x}, read);
    require_apart(written, read);
    const float hat = coefficient("c_hat", c_hat), z = coefficient("c_z", c_z);
    nb::gil_scoped_release released;
    return start(x.as<float>(), x0_hat.as<float>(), mean.as<float>(), std.as<float>(), noise_posterior.as<float>(),
                 noise_start.as<float>(), hat, z, x.size());
}

float step(const Tensor& x, const Tensor& output, const Tensor& x0_hat, nb::handle predictions, const Tensor* noise,
           double p_x, double p_out, double p_hat, double c_x, double c_hat, nb::handle c_p, double c_z) {
    const std::vector<nb::object> weights = items_of("c_p", c_p, 3);
    const std::vector<nb::object> ring = items_of("predictions", predictions, 16);
    if (weights.empty() || ring.size() < weights.size()) {
        throw nb::value_error(("c_p: expected 1 to 3 numbers and a prediction for each, got " +
                               std::to_string(weights.size()) + " and " + std::to_string(ring.size()) + " predictions")
                                  .c_str());
    }
    require_host({{"x", x}, {"output", output}, {"x0_hat", x0_hat}});
    require_dtype("x", x, Dtype::float32);
    require_float32("output", output, x.shape());
    require_float32("x0_hat", x0_hat, x.shape());
    SolverArrays arrays{x.as<float>(), output.as<float>(), x0_hat.as<float>(), {}, nullptr,
                        static_cast<int>(weights.size())};
    UpdateWeights update{coefficient("c_x", c_x), coefficient("c_hat", c_hat), coefficient("c_z", c_z), {}};
    const Tensor& newest = tensor_in("predictions[0]", ring[0]);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const std::string place = "[" + std::to_string(i) + "]";
        const std::string name = "predictions" + place, weight = "c_p" + place;
        const Tensor& prediction = tensor_in(name.c_str(), ring[i]);
        require_host({{name.c_str(), prediction}});
        require_float32(name.c_str(), prediction, x.shape());
        require_apart({"x", x}, {{name.c_str(), prediction}});
        if (i > 0) require_apart({"predictions[0]", newest}, {{name.c_str(), prediction}});
        arrays.predictions[i] = prediction.as<float>();
        update.predictions[i] = coefficient(weight.c_str(), number(weight.c_str(), weights[i]));
    }
    require_apart({"x", x}, {{"output", output}, {"x0_hat", x0_hat}});
    require_apart({"predictions[0]", newest}, {{"output", output}, {"x0_hat", x0_hat}});
    if (c_z != 0.0) {
        if (noise == nullptr) throw nb::value_error("noise: expected a Tensor because c_z is not 0, got None");
        require_host({{"noise", *noise}});
        require_float32("noise", *noise, x.shape());
        require_apart({"x", x}, {{"noise", *noise}});
        require_apart({"predictions[0]", newest}, {{"noise", *noise}});
        arrays.noise = noise->as<float>();
    }
    const PredictionWeights prediction{coefficient("p_x", p_x), coefficient("p_out", p_out),
                                       coefficient("p_hat", p_hat)};
    nb::gil_scoped_release released;
    return solver_step(arrays, prediction, update, x.size());
}

}  // namespace

void bind_sampler(nb::module_& module) {
    module.def("start", &start_latent, "x"_a, "x0_hat"_a, "latent_mean"_a, "latent_std"_a, "noise_posterior"_a,
               "noise_start"_a, "c_hat"_a, "c_z"_a);
    module.def("solver_step", &step, "x"_a, "output"_a, "x0_hat"_a, "predictions"_a.none(), "noise"_a.none(),
               "p_x"_a, "p_out"_a, "p_hat"_a, "c_x"_a, "c_hat"_a, "c_p"_a.none(), "c_z"_a);
}

}  // namespace dossr
