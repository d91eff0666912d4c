#include "foreign.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "dlpack.h"

namespace nb = nanobind;

namespace dossr {
namespace {

constexpr std::int32_t kMaxForeignRank = 64;  // as of the buffer protocol

[[noreturn]] void refuse_dtype(const char* name, const std::string& given) {
    throw nb::type_error((std::string(name) + ": dtype must be one of " + dtype_names() + ", got " + given).c_str());
}

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

template <typename Managed>
std::shared_ptr<void> owned(Managed* managed) {
    return std::shared_ptr<Managed>(managed, [](Managed* owned) {
        if (owned->deleter != nullptr) owned->deleter(owned);
    });
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
        read_dlpack(object, name);
    } else {
        throw nb::type_error((std::string(name) + ": expected an object with the buffer protocol or DLPack, got " +
                              class_name(object))
                                 .c_str());
    }
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
        refuse_dtype(name, "buffer format '" + std::string(held->format ? held->format : "B") + "' of " +
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

void ForeignArray::read_dlpack(nb::handle object, const char* name) {
    const nb::object device = object.attr("__dlpack_device__")();
    std::int64_t type = 0;
    if (!nb::isinstance<nb::tuple>(device) || nb::len(device) != 2 || !nb::try_cast(device[0], type)) {
        throw nb::type_error((std::string(name) + ": __dlpack_device__() must return two integers").c_str());
    }
    if (type != dlpack::kCpu && type != dlpack::kCudaHost) {
        throw nb::buffer_error((std::string(name) + ": expected memory of the CPU, got DLPack device type " +
                                std::to_string(type) + "; copy the array to the CPU first")
                                   .c_str());
    }
    nb::object capsule;
    try {
        capsule = object.attr("__dlpack__")(nb::arg("max_version") = nb::make_tuple(1, 0));
    } catch (nb::python_error& error) {
        // Producers from before DLPack 1.0 do not know the argument.
        if (!error.matches(PyExc_TypeError)) throw;
        capsule = object.attr("__dlpack__")();
    }
    dlpack::Array* array = nullptr;
    if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
        auto* managed = static_cast<dlpack::ManagedVersioned*>(
            PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
        PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
        owner_ = owned(managed);
        if (managed->version.major != 1) {
            throw nb::buffer_error((std::string(name) + ": DLPack major version must be 1, got " +
                                    std::to_string(managed->version.major))
                                       .c_str());
        }
        array = &managed->array;
    } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
        auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
        PyCapsule_SetName(capsule.ptr(), "used_dltensor");
        owner_ = owned(managed);
        array = &managed->array;
    } else {
        throw nb::buffer_error((std::string(name) + ": __dlpack__() returned no fresh DLPack capsule").c_str());
    }
    const DtypeInfo* found = nullptr;
    for (const Dtype dtype : {Dtype::float32, Dtype::uint8, Dtype::float16, Dtype::int64, Dtype::float64,
                              Dtype::uint16}) {
        const DtypeInfo& entry = info(dtype);
        if (array->dtype.code == entry.dlpack_code && array->dtype.bits == 8 * entry.size && array->dtype.lanes == 1) {
            found = &entry;
        }
    }
    if (found == nullptr) {
        refuse_dtype(name, "DLPack type code " + std::to_string(array->dtype.code) + " with " +
                               std::to_string(array->dtype.bits) + " bits and " +
                               std::to_string(array->dtype.lanes) + " lanes");
    }
    dtype_ = found->dtype;
    if (array->ndim < 0 || array->ndim > kMaxForeignRank || (array->ndim > 0 && array->shape == nullptr)) {
        throw nb::buffer_error((std::string(name) + ": the DLPack array has no valid shape").c_str());
    }
    if (array->ndim > 0) shape_.assign(array->shape, array->shape + array->ndim);
    for (const std::int64_t side : shape_) {
        if (side < 0) throw nb::buffer_error((std::string(name) + ": the DLPack array has a negative side").c_str());
    }
    if (array->strides != nullptr) {
        for (int i = 0; i < array->ndim; ++i) byte_strides_.push_back(array->strides[i] * found->size);
    } else {
        contiguous_strides();
    }
    data_ = static_cast<const std::uint8_t*>(array->data) + array->byte_offset;
    if (array->data == nullptr && !empty()) {
        throw nb::buffer_error((std::string(name) + ": the DLPack array has no memory").c_str());
    }
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
