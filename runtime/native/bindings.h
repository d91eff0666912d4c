// The parts of the Python module; each adds its names. No arithmetic: they check arguments and call.
#pragma once

#include <nanobind/nanobind.h>

namespace dossr {

void bind_tensor(nanobind::module_& module);
void bind_noise(nanobind::module_& module);
void bind_sampler(nanobind::module_& module);
void bind_image(nanobind::module_& module);
void bind_cuda(nanobind::module_& module);          // the submodule `cuda`, or None in a build without CUDA
void bind_cuda_kernels(nanobind::module_& cuda);    // into that submodule

}  // namespace dossr
