// Tensor for other libraries: Python's buffer protocol and DLPack. Both keep the memory alive.
#pragma once

#include <nanobind/nanobind.h>

#include "dlpack.h"
#include "tensor.h"

namespace dossr {

// Type slots of the buffer protocol, for nb::class_<Tensor>.
extern PyType_Slot tensor_buffer_slots[];

// Why a CPU does not get at a tensor on a GPU, and what to do.
std::string not_on_host(const Tensor& tensor);

// Pinned memory is given as the CPU's, which it is: more libraries take it so.
dlpack::Device dlpack_device(const Tensor& tensor) noexcept;

// A capsule named "dltensor_versioned" (version 1.0) or "dltensor". Needs the GIL only for the capsule itself.
nanobind::object dlpack_capsule(const Tensor& tensor, bool versioned, bool copied);

}  // namespace dossr
