// Arrays of other libraries, read through Python's buffer protocol or DLPack.
#pragma once

#include <nanobind/nanobind.h>

#include "tensor.h"

namespace dossr {

// A Python string and the name of an object's class, for error texts; "?" where they cannot be written (surrogates).
std::string text_of(nanobind::handle text);
std::string class_name(nanobind::handle object);

// Throws nb::type_error for a dtype that Tensor has not; `given` says which.
[[noreturn]] void refuse_foreign_dtype(const char* name, const std::string& given);

// Who reads an array on a GPU: work on that stream (a cudaStream_t) waits for the array's producer.
struct CudaConsumer {
    int device;
    std::uintptr_t stream;
};

// A borrowed view; the memory stays valid and exported until this object is destroyed (with the GIL held).
class ForeignArray {
public:
    // `name` is the argument's, for error texts. Throws nb::type_error for objects with neither protocol and for
    // dtypes that Tensor has not, nb::buffer_error for memory that a CPU cannot read, and what the object raises itself.
    ForeignArray(nanobind::handle object, const char* name);

    // An array in the consumer's GPU's memory, through DLPack; nb::buffer_error for one that is anywhere else.
    ForeignArray(nanobind::handle object, const char* name, const CudaConsumer& consumer);

    ForeignArray(const ForeignArray&) = delete;
    ForeignArray& operator=(const ForeignArray&) = delete;

    Dtype dtype() const noexcept { return dtype_; }
    const Shape& shape() const noexcept { return shape_; }
    const std::vector<std::int64_t>& byte_strides() const noexcept { return byte_strides_; }
    const std::uint8_t* data() const noexcept { return data_; }
    const std::shared_ptr<void>& owner() const noexcept { return owner_; }
    bool contiguous() const noexcept;
    bool empty() const noexcept;

    // The span of addresses that the elements lie in.
    const std::uint8_t* lowest() const noexcept;
    std::int64_t span() const noexcept;

    std::string describe() const { return dossr::describe(info(dtype_).name, shape_); }

    // Writes the elements in C order to `out`, which must not overlap them. Needs no GIL.
    void copy_to(void* out) const noexcept;

private:
    void read_buffer(nanobind::handle object, const char* name);
    void read_dlpack(nanobind::handle object, const char* name, const CudaConsumer* consumer);
    void contiguous_strides();

    Dtype dtype_ = Dtype::float32;
    Shape shape_;
    std::vector<std::int64_t> byte_strides_;
    const std::uint8_t* data_ = nullptr;
    std::shared_ptr<void> owner_;
};

}  // namespace dossr
