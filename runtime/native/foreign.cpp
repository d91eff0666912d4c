#include "foreign.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace nb = nanobind;

namespace dossr {
namespace {

// The dtype of a struct-module format with its item size, or null. Big-endian is refused by being unknown.
const DtypeInfo* dtype_of_format(const char* format, Py_ssize_t item_size) {
    if (format == nullptr) format = "B";
    const bool swapped = *format == '>' || *format == '!';
    if (std::strchr("@=<>!", *format) != nullptr && *format != '\0') ++format;
    if (std::strlen(format) != 1 || (swapped && item_size > 1)) return nullptr;
    const char* name = nullptr;
    switch (*format) {
        case 'f': name = "float32"; break;
        case 'd': name = "float64"; break;
        case 'e': name = "float16"; break;
        case 'B': name = "uint8"; break;
        case 'H': name = "uint16"; break;
        case 'l':
        case 'q': name = "int64"; break;
        default: return nullptr;
    }
    const DtypeInfo* found = find_dtype(name);
    return found->size == item_size ? found : nullptr;
}

// One axis after the other, the last ones merged into runs of `run` bytes.
void copy_axis(std::uint8_t*& out, const std::uint8_t* in, const std::int64_t* shape, const std::int64_t* strides,
               std::size_t axes, std::int64_t run) {
    if (axes == 0) {
        std::memcpy(out, in, static_cast<std::size_t>(run));
        out += run;
        return;
    }
    for (std::int64_t i = 0; i < shape[0]; ++i) {
        copy_axis(out, in + i * strides[0], shape + 1, strides + 1, axes - 1, run);
    }
}

}  // namespace

std::string class_name(nb::handle object) { return text_of(nb::str(object.type().attr("__name__"))); }

std::string text_of(nb::handle text) {
    Py_ssize_t bytes = 0;
    const char* const utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), &bytes);
    if (utf8 != nullptr) return {utf8, static_cast<std::size_t>(bytes)};
    PyErr_Clear();
    return "?";
}

ForeignArray::ForeignArray(nb::handle object, const char* name) {
    if (PyObject_CheckBuffer(object.ptr())) {
        read_buffer(object, name);
    } else if (nb::hasattr(object, "__dlpack__") && nb::hasattr(object, "__dlpack_device__")) {
        read_dlpack(object, name, nullptr);
    } else {
        throw nb::type_error((std::string(name) + ": expected an object with the buffer protocol or DLPack, got " +
                              class_name(object))
                                 .c_str());
    }
}

[[noreturn]] void refuse_foreign_dtype(const char* name, const std::string& given) {
    throw nb::type_error((std::string(name) + ": dtype must be one of " + dtype_names() + ", got " + given).c_str());
}

ForeignArray::ForeignArray(nb::handle object, const char* name, const CudaConsumer& consumer) {
    if (!nb::hasattr(object, "__dlpack__") || !nb::hasattr(object, "__dlpack_device__")) {
        throw nb::type_error(
            (std::string(name) + ": expected an object with DLPack, got " + class_name(object)).c_str());
    }
    read_dlpack(object, name, &consumer);
}

void ForeignArray::read_buffer(nb::handle object, const char* name) {
    auto view = std::make_unique<Py_buffer>();
    if (PyObject_GetBuffer(object.ptr(), view.get(), PyBUF_RECORDS_RO) != 0) throw nb::python_error();
    Py_buffer* const held = view.get();
    owner_ = std::shared_ptr<Py_buffer>(view.release(), [](Py_buffer* owned) {
        PyBuffer_Release(owned);
        delete owned;
    });
    const DtypeInfo* found = dtype_of_format(held->format, held->itemsize);
    if (found == nullptr) {
        refuse_foreign_dtype(name, "buffer format '" + std::string(held->format ? held->format : "B") + "' of " +
                               std::to_string(held->itemsize) + " bytes");
    }
    dtype_ = found->dtype;
    // Some exporters leave shape or strides out where they are plain (ctypes does), even when asked for them.
    if (held->shape != nullptr) {
        shape_.assign(held->shape, held->shape + held->ndim);
    } else if (held->ndim != 0) {
        shape_.assign(1, held->len / found->size);
    }
    if (held->strides != nullptr && held->shape != nullptr) {
        byte_strides_.assign(held->strides, held->strides + held->ndim);
    } else {
        contiguous_strides();
    }
    if (held->suboffsets != nullptr) {
        for (int i = 0; i < held->ndim; ++i) {
            if (held->suboffsets[i] >= 0) {
                throw nb::buffer_error((std::string(name) + ": buffers of pointers (suboffsets) are not read").c_str());
            }
        }
    }
    data_ = static_cast<const std::uint8_t*>(held->buf);
}

void ForeignArray::contiguous_strides() {
    byte_strides_.resize(shape_.size());
    std::int64_t stride = info(dtype_).size;
    for (std::size_t i = shape_.size(); i-- > 0;) {
        byte_strides_[i] = stride;
        if (!empty()) stride *= shape_[i];
    }
}

bool ForeignArray::empty() const noexcept {
    return std::find(shape_.begin(), shape_.end(), 0) != shape_.end();
}

bool ForeignArray::contiguous() const noexcept {
    if (empty()) return true;
    std::int64_t stride = info(dtype_).size;
    for (std::size_t i = shape_.size(); i-- > 0;) {
        if (shape_[i] != 1 && byte_strides_[i] != stride) return false;
        stride *= shape_[i];
    }
    return true;
}

const std::uint8_t* ForeignArray::lowest() const noexcept {
    const std::uint8_t* low = data_;
    for (std::size_t i = 0; i < shape_.size(); ++i) {
        if (shape_[i] > 0 && byte_strides_[i] < 0) low += (shape_[i] - 1) * byte_strides_[i];
    }
    return low;
}

std::int64_t ForeignArray::span() const noexcept {
    if (empty()) return 0;
    std::int64_t bytes = info(dtype_).size;
    for (std::size_t i = 0; i < shape_.size(); ++i) bytes += (shape_[i] - 1) * std::abs(byte_strides_[i]);
    return bytes;
}

void ForeignArray::copy_to(void* out) const noexcept {
    if (empty()) return;
    std::int64_t run = info(dtype_).size;
    std::size_t axes = shape_.size();
    while (axes > 0 && (shape_[axes - 1] == 1 || byte_strides_[axes - 1] == run)) run *= shape_[--axes];
    auto* target = static_cast<std::uint8_t*>(out);
    copy_axis(target, data_, shape_.data(), byte_strides_.data(), axes, run);
}

}  // namespace dossr
