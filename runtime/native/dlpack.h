// The DLPack exchange structures, versions 0 (unversioned) and 1: an ABI, so field order and sizes are fixed.
// Source: the Python Array API standard and https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once

#include <cstdint>

namespace dossr::dlpack {

constexpr std::int32_t kCpu = 1;
constexpr std::int32_t kCuda = 2;
constexpr std::int32_t kCudaHost = 3;  // pinned: a CPU reads it like its own

constexpr std::uint64_t kReadOnly = 1;
constexpr std::uint64_t kCopied = 2;

struct Device {
    std::int32_t type;
    std::int32_t id;
};

struct DataType {
    std::uint8_t code;
    std::uint8_t bits;
    std::uint16_t lanes;
};

struct Array {
    void* data;
    Device device;
    std::int32_t ndim;
    DataType dtype;
    std::int64_t* shape;
    std::int64_t* strides;  // in elements; null: C-contiguous
    std::uint64_t byte_offset;
};

struct Managed {
    Array array;
    void* context;
    void (*deleter)(Managed*);
};

struct Version {
    std::uint32_t major;
    std::uint32_t minor;
};

struct ManagedVersioned {
    Version version;
    void* context;
    void (*deleter)(ManagedVersioned*);
    std::uint64_t flags;
    Array array;
};

}  // namespace dossr::dlpack
