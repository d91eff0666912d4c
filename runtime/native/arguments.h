// Checks of the arguments that kernels are called with; every text names the argument, what came and what was expected.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "foreign.h"
#include "tensor.h"

namespace dossr {

// An item of a sequence as a Tensor; throws nb::type_error for anything else.
const Tensor& tensor_in(const char* name, nanobind::handle item);

// Throws nb::type_error unless the tensor has that dtype.
void require_dtype(const char* name, const Tensor& tensor, Dtype dtype);

// Throws nb::type_error for another dtype than float32, nb::value_error for another shape.
void require_float32(const char* name, const Tensor& tensor, const Shape& shape);

// Throws nb::value_error unless the tensor has `rank` sides; `layout` spells them, "[B, C, H, W]".
void require_rank(const char* name, const Tensor& tensor, std::size_t rank, const char* layout);

// Throws nb::value_error when `written` shares memory with any of the others.
struct Named {
    const char* name;
    const Tensor& tensor;
};
void require_apart(const Named& written, std::initializer_list<Named> others);
void require_apart(const Named& written, const char* name, const ForeignArray& other);

// Throws nb::type_error for a tensor that a CPU cannot read.
void require_host(std::initializer_list<Named> tensors);

// Throws nb::type_error for a tensor that is not in the memory of that GPU.
void require_device(int device, std::initializer_list<Named> tensors);

// An integer within [low, high]; throws nb::type_error for what is no integer, nb::value_error out of range.
std::int64_t integer(const char* name, nanobind::handle value, std::int64_t low, std::int64_t high);

// A seed as PyTorch takes it: -2^63 to 2^64 - 1, as 64 bits; errors as of integer().
std::uint64_t seed_bits(nanobind::handle value);

// A coefficient as float32; throws nb::value_error when it is not finite there.
float coefficient(const char* name, double value);

// The items of a sequence, by index and not by iteration, so that there are `most` at the most; throws nb::type_error
// for what is no sequence, nb::value_error for more items.
std::vector<nanobind::object> items_of(const char* name, nanobind::handle sequence, std::int64_t most);

// A float; throws nb::type_error for what is no number.
double number(const char* name, nanobind::handle value);

// A sequence of integers of 0 or more; errors as of items_of() and integer().
Shape shape_of(nanobind::handle sequence);

}  // namespace dossr
