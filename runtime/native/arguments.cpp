#include "arguments.h"

#include <cmath>

namespace nb = nanobind;

namespace dossr {
namespace {

[[noreturn]] void wrong_value(const std::string& text) { throw nb::value_error(text.c_str()); }

// The value as a Python int, through __index__: floats and strings are refused.
nb::object index_of(const char* name, nb::handle value) {
    nb::object number = nb::steal(PyNumber_Index(value.ptr()));
    if (number.is_valid()) return number;
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
    PyErr_Clear();
    throw nb::type_error((std::string(name) + ": expected an integer, got " + class_name(value)).c_str());
}

}  // namespace

const Tensor& tensor_in(const char* name, nb::handle item) {
    if (nb::isinstance<Tensor>(item) && nb::inst_ready(item)) return *nb::inst_ptr<Tensor>(item);
    throw nb::type_error((std::string(name) + ": expected a Tensor, got " + class_name(item)).c_str());
}

void require_dtype(const char* name, const Tensor& tensor, Dtype dtype) {
    if (tensor.dtype() == dtype) return;
    throw nb::type_error(
        (std::string(name) + ": expected dtype " + info(dtype).name + ", got " + tensor.describe()).c_str());
}

void require_float32(const char* name, const Tensor& tensor, const Shape& shape) {
    require_dtype(name, tensor, Dtype::float32);
    if (tensor.shape() != shape) {
        wrong_value(std::string(name) + ": expected " + describe("float32", shape) + ", got " + tensor.describe());
    }
}

void require_rank(const char* name, const Tensor& tensor, std::size_t rank, const char* layout) {
    if (tensor.shape().size() != rank) {
        wrong_value(std::string(name) + ": expected the layout " + layout + ", got " + tensor.describe());
    }
}

void require_apart(const Named& written, std::initializer_list<Named> others) {
    for (const Named& other : others) {
        if (overlap(written.tensor.data(), written.tensor.nbytes(), other.tensor.data(), other.tensor.nbytes())) {
            wrong_value(std::string(written.name) + " is written and must not share memory with " + other.name);
        }
    }
}

void require_apart(const Named& written, const char* name, const ForeignArray& other) {
    if (overlap(written.tensor.data(), written.tensor.nbytes(), other.lowest(), other.span())) {
        wrong_value(std::string(written.name) + " is written and must not share memory with " + name);
    }
}

void require_host(std::initializer_list<Named> tensors) {
    for (const Named& given : tensors) {
        if (!given.tensor.device().on_cuda()) continue;
        throw nb::type_error((std::string(given.name) + ": expected a tensor of the CPU, got " +
                              given.tensor.describe() + "; call the function of _native.cuda, or Stream.copy it first")
                                 .c_str());
    }
}

void require_device(int device, std::initializer_list<Named> tensors) {
    for (const Named& given : tensors) {
        const Device& place = given.tensor.device();
        if (place.on_cuda() && place.index == device) continue;
        throw nb::type_error((std::string(given.name) + ": expected a tensor on " +
                              Device{Device::Kind::cuda, device}.name() + ", as the stream is, got " +
                              given.tensor.describe() + (place.on_cuda() ? "" : " on cpu"))
                                 .c_str());
    }
}

std::int64_t integer(const char* name, nb::handle value, std::int64_t low, std::int64_t high) {
    const nb::object number = index_of(name, value);
    int overflow = 0;
    const long long result = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow != 0 || result < low || result > high) {
        wrong_value(std::string(name) + ": expected " + std::to_string(low) + " to " + std::to_string(high) +
                    ", got " + text_of(nb::repr(number)));
    }
    return result;
}

std::uint64_t seed_bits(nb::handle value) {
    const nb::object number = index_of("seed", value);
    int overflow = 0;
    const long long small = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow == 0) return static_cast<std::uint64_t>(small);
    if (overflow > 0) {
        const unsigned long long large = PyLong_AsUnsignedLongLong(number.ptr());
        if (!PyErr_Occurred()) return large;
        PyErr_Clear();
    }
    wrong_value("seed: expected -2**63 to 2**64 - 1, got " + text_of(nb::repr(number)));
}

float coefficient(const char* name, double value) {
    const float rounded = static_cast<float>(value);
    if (!std::isfinite(rounded)) {
        wrong_value(std::string(name) + ": expected a number that is finite in float32, got " + std::to_string(value));
    }
    return rounded;
}

std::vector<nb::object> items_of(const char* name, nb::handle sequence, std::int64_t most) {
    const Py_ssize_t count = PySequence_Check(sequence.ptr()) ? PySequence_Size(sequence.ptr()) : -1;
    if (count < 0) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
        PyErr_Clear();
        throw nb::type_error((std::string(name) + ": expected a sequence, got " + class_name(sequence)).c_str());
    }
    if (count > most) {
        wrong_value(std::string(name) + ": expected at most " + std::to_string(most) + " items, got " +
                    std::to_string(count));
    }
    std::vector<nb::object> items;
    for (Py_ssize_t i = 0; i < count; ++i) {
        items.push_back(nb::steal(PySequence_GetItem(sequence.ptr(), i)));
        if (!items.back().is_valid()) throw nb::python_error();
    }
    return items;
}

double number(const char* name, nb::handle value) {
    const double result = PyFloat_AsDouble(value.ptr());
    if (result == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
        PyErr_Clear();
        throw nb::type_error((std::string(name) + ": expected a number, got " + class_name(value)).c_str());
    }
    return result;
}

Shape shape_of(nb::handle sequence) {
    Shape shape;
    for (const nb::object& side : items_of("shape", sequence, kMaxRank)) {
        const std::string name = "shape[" + std::to_string(shape.size()) + "]";
        shape.push_back(integer(name.c_str(), side, 0, INT64_MAX));
    }
    return shape;
}

}  // namespace dossr
