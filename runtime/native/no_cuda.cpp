// Stands in the place of CUDA in a build that found no nvcc.
#include "bindings.h"
#include "cuda_error.h"
#include "device_memory.h"

namespace nb = nanobind;

namespace dossr {
namespace {

[[noreturn]] void refuse(const std::string& doing) {
    throw CudaError(doing + ": this build of runtime._native has no CUDA; put the CUDA toolkit's nvcc on PATH and build "
                            "again with `pip install -e .`, or run on the CPU");
}

}  // namespace

std::shared_ptr<void> zeroed_for_cuda(std::int64_t, const Device& device, const std::string& what) {
    refuse("allocating " + what + (device.on_cuda() ? " on " + device.name() : " in pinned memory"));
}

void copy_on_device(void*, const void*, std::int64_t, const Device& device) { refuse("copying on " + device.name()); }

void synchronize_device(const Device& device) { refuse("synchronizing " + device.name()); }

void bind_cuda(nb::module_& module) { module.attr("cuda") = nb::none(); }

}  // namespace dossr
