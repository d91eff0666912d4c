#include <algorithm>

#include "dlpack.h"
#include "foreign.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace dossr {
namespace {

constexpr std::int32_t kMaxForeignRank = 64;  // as of the buffer protocol

[[noreturn]] void refuse(const char* name, const std::string& why) {
    throw nb::buffer_error((std::string(name) + ": " + why).c_str());
}

template <typename Managed>
std::shared_ptr<void> owned(Managed* managed) {
    return std::shared_ptr<Managed>(managed, [](Managed* owned) {
        if (owned->deleter != nullptr) owned->deleter(owned);
    });
}

void require_device(const char* name, nb::handle object, const CudaConsumer* consumer) {
    const nb::object device = object.attr("__dlpack_device__")();
    std::int64_t type = 0, id = 0;
    if (!nb::isinstance<nb::tuple>(device) || nb::len(device) != 2 || !nb::try_cast(device[0], type) ||
        (consumer != nullptr && !nb::try_cast(device[1], id))) {
        throw nb::type_error((std::string(name) + ": __dlpack_device__() must return two integers").c_str());
    }
    const std::string given = "got DLPack device type " + std::to_string(type);
    if (consumer == nullptr) {
        if (type == dlpack::kCpu || type == dlpack::kCudaHost) return;
        refuse(name, "expected memory of the CPU, " + given + "; copy the array to the CPU first");
    }
    if (type == dlpack::kCuda && id == consumer->device) return;
    refuse(name, "expected memory on " + Device{Device::Kind::cuda, consumer->device}.name() +
                     ", as the stream is (DLPack device type 2), " + given + " and index " + std::to_string(id) +
                     "; move the array there first");
}

// Producers from before DLPack 1.0 do not know max_version.
nb::object capsule_of(nb::handle object, const CudaConsumer* consumer) {
    const nb::object export_to = object.attr("__dlpack__");
    const nb::object stream = consumer == nullptr ? nb::none() : nb::object(nb::int_(consumer->stream));
    const nb::tuple version = nb::make_tuple(1, 0);
    try {
        return consumer == nullptr ? export_to("max_version"_a = version)
                                   : export_to("stream"_a = stream, "max_version"_a = version);
    } catch (nb::python_error& error) {
        if (!error.matches(PyExc_TypeError)) throw;
        return consumer == nullptr ? export_to() : export_to("stream"_a = stream);
    }
}

const DtypeInfo& dtype_of(const char* name, const dlpack::DataType& type) {
    for (const Dtype dtype :
         {Dtype::float32, Dtype::uint8, Dtype::float16, Dtype::int64, Dtype::float64, Dtype::uint16}) {
        const DtypeInfo& entry = info(dtype);
        if (type.code == entry.dlpack_code && type.bits == 8 * entry.size && type.lanes == 1) return entry;
    }
    refuse_foreign_dtype(name, "DLPack type code " + std::to_string(type.code) + " with " + std::to_string(type.bits) +
                                   " bits and " + std::to_string(type.lanes) + " lanes");
}

}  // namespace

void ForeignArray::read_dlpack(nb::handle object, const char* name, const CudaConsumer* consumer) {
    require_device(name, object, consumer);
    const nb::object capsule = capsule_of(object, consumer);
    dlpack::Array* array = nullptr;
    if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
        auto* managed = static_cast<dlpack::ManagedVersioned*>(
            PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
        PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
        owner_ = owned(managed);
        if (managed->version.major != 1) {
            refuse(name, "DLPack major version must be 1, got " + std::to_string(managed->version.major));
        }
        array = &managed->array;
    } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
        auto* managed = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
        PyCapsule_SetName(capsule.ptr(), "used_dltensor");
        owner_ = owned(managed);
        array = &managed->array;
    } else {
        refuse(name, "__dlpack__() returned no fresh DLPack capsule");
    }
    const DtypeInfo& dtype = dtype_of(name, array->dtype);
    dtype_ = dtype.dtype;
    if (array->ndim < 0 || array->ndim > kMaxForeignRank || (array->ndim > 0 && array->shape == nullptr)) {
        refuse(name, "the DLPack array has no valid shape");
    }
    if (array->ndim > 0) shape_.assign(array->shape, array->shape + array->ndim);
    if (std::any_of(shape_.begin(), shape_.end(), [](std::int64_t side) { return side < 0; })) {
        refuse(name, "the DLPack array has a negative side");
    }
    if (array->strides != nullptr) {
        for (int i = 0; i < array->ndim; ++i) byte_strides_.push_back(array->strides[i] * dtype.size);
    } else {
        contiguous_strides();
    }
    data_ = static_cast<const std::uint8_t*>(array->data) + array->byte_offset;
    if (array->data == nullptr && !empty()) refuse(name, "the DLPack array has no memory");
}

}  // namespace dossr
