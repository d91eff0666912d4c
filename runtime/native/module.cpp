#include "arguments.h"
#include "bindings.h"
#include "cuda_error.h"
#include "parallel.h"
#include "simd.h"

namespace nb = nanobind;
using namespace nb::literals;

NB_MODULE(DOSSR_MODULE, module) {
    // What a caller's globals hold at exit is no leak of ours, and their standard error is not ours to write to.
    nb::set_leak_warnings(false);
    module.attr("__version__") = DOSSR_VERSION;
    nb::exception<dossr::CudaError>(module, "CudaError", PyExc_RuntimeError);
    dossr::bind_tensor(module);
    dossr::bind_noise(module);
    dossr::bind_sampler(module);
    dossr::bind_image(module);
    dossr::bind_cuda(module);
    module.def("num_threads", &dossr::num_threads);
    module.def("set_num_threads", [](nb::handle n) {
        dossr::set_num_threads(static_cast<int>(dossr::integer("n", n, 1, 1024)));
    }, "n"_a.none());
    module.def("_set_simd", &dossr::set_simd, "allowed"_a);
}
