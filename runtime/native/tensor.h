// Memory with a shape and a dtype, on the host or on a GPU: what kernels read and write, and what engines get raw
// pointers of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "device.h"

namespace dossr {

enum class Dtype { float32, uint8, float16, int64, float64, uint16 };

struct DtypeInfo {
    Dtype dtype;
    const char* name;
    const char* buffer_format;     // of the struct module
    std::int64_t size;             // bytes
    std::uint8_t dlpack_code;      // kDLInt 0, kDLUInt 1, kDLFloat 2
};

const DtypeInfo& info(Dtype dtype) noexcept;

// Null when there is no such name.
const DtypeInfo* find_dtype(const std::string& name) noexcept;

// "float32, uint8, ..." for error texts.
std::string dtype_names();

using Shape = std::vector<std::int64_t>;

// "float32 [1, 3, 8, 8]" for error texts.
std::string describe(const std::string& dtype, const Shape& shape);

constexpr std::size_t kMaxRank = 16;

// Memory that cannot be had; says how much was asked for.
class OutOfMemory : public std::bad_alloc {
public:
    explicit OutOfMemory(std::string text) : text_(std::move(text)) {}
    const char* what() const noexcept override { return text_.c_str(); }

private:
    std::string text_;
};

// C-contiguous elements in 64-byte-aligned memory, zeroed at birth. Shape, dtype, device and address never change; the
// memory lives as long as any Tensor, buffer view or DLPack capsule of it.
class Tensor {
public:
    // Throws std::invalid_argument for a negative side or more than kMaxRank sides, OutOfMemory, CudaError.
    Tensor(Shape shape, Dtype dtype, Device device = {});

    // Memory of somebody else, C-contiguous, neither zeroed nor aligned by us; `memory` keeps it alive. Errors as above.
    static Tensor of(std::shared_ptr<void> memory, Shape shape, Dtype dtype, Device device);

    const Shape& shape() const noexcept { return shape_; }
    const std::vector<std::int64_t>& strides() const noexcept { return strides_; }  // in elements
    Dtype dtype() const noexcept { return dtype_; }
    const Device& device() const noexcept { return device_; }
    std::int64_t size() const noexcept { return size_; }
    std::int64_t nbytes() const noexcept { return size_ * info(dtype_).size; }
    void* data() const noexcept { return data_.get(); }

    template <typename T>
    T* as() const noexcept {
        return static_cast<T*>(data_.get());
    }

    // Sets every element in host memory; throws std::invalid_argument when an integer dtype cannot hold the value.
    void fill(double value);

    // The index-th item of the leading axis (negative: from the end), sharing memory. Throws std::out_of_range, and
    // std::invalid_argument for a tensor without axes.
    Tensor slice(std::int64_t index) const;

    // "float32 [1, 3, 8, 8]", on a GPU with "on cuda:0".
    std::string describe() const;

private:
    Tensor() = default;
    void lay_out(Shape shape, Dtype dtype, Device device);
    Shape shape_;
    std::vector<std::int64_t> strides_;
    Dtype dtype_ = Dtype::float32;
    Device device_;
    std::int64_t size_ = 0;
    std::shared_ptr<void> data_;
};

// Whether two ranges of bytes share one; an empty range shares nothing.
bool overlap(const void* a, std::int64_t a_bytes, const void* b, std::int64_t b_bytes) noexcept;

}  // namespace dossr
