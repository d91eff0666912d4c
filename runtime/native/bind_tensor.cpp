#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <optional>

#include "arguments.h"
#include "bindings.h"
#include "device_memory.h"
#include "foreign.h"
#include "tensor_export.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace dossr {
namespace {

Tensor make_tensor(nb::handle shape, const std::string& dtype, const std::string& device) {
    const DtypeInfo* found = find_dtype(dtype);
    if (found == nullptr) {
        throw nb::value_error(("dtype: expected one of " + dtype_names() + ", got '" + dtype + "'").c_str());
    }
    const Device place = device_of(device);
    Shape sides = shape_of(shape);
    nb::gil_scoped_release released;
    return Tensor(std::move(sides), found->dtype, place);
}

void require_on_host(const Tensor& tensor) {
    if (tensor.device().on_cuda()) throw nb::buffer_error(not_on_host(tensor).c_str());
}

nb::tuple shape_tuple(const Tensor& tensor) {
    nb::list sides;
    for (const std::int64_t side : tensor.shape()) sides.append(side);
    return nb::tuple(sides);
}

void fill(Tensor& tensor, double value) {
    require_on_host(tensor);
    tensor.fill(value);
}

void copy_from(const Tensor& target, nb::handle object) {
    require_on_host(target);
    const ForeignArray source(object, "obj");
    if (source.dtype() != target.dtype() || source.shape() != target.shape()) {
        const std::string text = "copy_from: the tensor is " + target.describe() + ", obj is " + source.describe();
        if (source.dtype() != target.dtype()) throw nb::type_error(text.c_str());
        throw nb::value_error(text.c_str());
    }
    nb::gil_scoped_release released;
    if (!overlap(target.data(), target.nbytes(), source.lowest(), source.span())) {
        source.copy_to(target.data());
    } else if (source.contiguous()) {
        std::memmove(target.data(), source.data(), static_cast<std::size_t>(target.nbytes()));
    } else {
        const Tensor apart(target.shape(), target.dtype());
        source.copy_to(apart.data());
        std::memcpy(target.data(), apart.data(), static_cast<std::size_t>(target.nbytes()));
    }
}

Tensor tensor_from(nb::handle object) {
    const ForeignArray source(object, "obj");
    Tensor tensor(source.shape(), source.dtype());
    nb::gil_scoped_release released;
    source.copy_to(tensor.data());
    return tensor;
}

nb::tuple device_tuple(const Tensor& tensor) {
    const dlpack::Device device = dlpack_device(tensor);
    return nb::make_tuple(device.type, device.id);
}

// A consumer on a GPU names its stream, or -1 if it wants none waited for; ours are not known to the tensor, so all of
// the GPU's work is waited for.
void finish_for_consumer(const Tensor& tensor, nb::handle stream) {
    if (!tensor.device().on_cuda()) {
        if (!stream.is_none()) throw nb::buffer_error("__dlpack__: stream must be None for memory of the CPU");
        return;
    }
    const std::int64_t consumer = stream.is_none() ? 1 : integer("stream", stream, -1, INT64_MAX);
    if (consumer == 0) {
        throw nb::value_error("stream: 0 could be either default stream; pass 1 (legacy) or 2 (per thread) instead");
    }
    if (consumer == -1) return;
    nb::gil_scoped_release released;
    synchronize_device(tensor.device());
}

Tensor duplicate_of(const Tensor& tensor) {
    nb::gil_scoped_release released;
    Tensor duplicate(tensor.shape(), tensor.dtype(), tensor.device());
    if (tensor.device().on_cuda()) {
        copy_on_device(duplicate.data(), tensor.data(), tensor.nbytes(), tensor.device());
    } else {
        std::memcpy(duplicate.data(), tensor.data(), static_cast<std::size_t>(tensor.nbytes()));
    }
    return duplicate;
}

nb::object to_dlpack(const Tensor& tensor, nb::handle stream, nb::handle max_version, nb::handle dl_device,
                     std::optional<bool> copy) {
    if (!dl_device.is_none()) {
        nb::tuple device;
        std::int64_t type = 0, id = 0;
        if (!nb::try_cast(dl_device, device) || nb::len(device) != 2 || !nb::try_cast(device[0], type) ||
            !nb::try_cast(device[1], id)) {
            throw nb::type_error("__dlpack__: dl_device must be a tuple of two integers");
        }
        const dlpack::Device here = dlpack_device(tensor);
        if (type != here.type || id != here.id) {
            throw nb::buffer_error(("__dlpack__: the memory is on " + tensor.device().name() + ", dl_device must be (" +
                                    std::to_string(here.type) + ", " + std::to_string(here.id) + ")")
                                       .c_str());
        }
    }
    std::int64_t major = 0;
    if (!max_version.is_none()) {
        nb::tuple version;
        if (!nb::try_cast(max_version, version) || nb::len(version) != 2 || !nb::try_cast(version[0], major)) {
            throw nb::type_error("__dlpack__: max_version must be a tuple of two integers");
        }
    }
    finish_for_consumer(tensor, stream);
    if (!copy.value_or(false)) return dlpack_capsule(tensor, major >= 1, false);
    return dlpack_capsule(duplicate_of(tensor), major >= 1, true);
}

// What Pillow's Image.fromarray asks for; it reads the pixels through the buffer protocol.
nb::dict array_interface(const Tensor& tensor) {
    require_on_host(tensor);
    const DtypeInfo& dtype = info(tensor.dtype());
    nb::dict described;
    described["version"] = 3;
    described["shape"] = shape_tuple(tensor);
    described["typestr"] = (dtype.size == 1 ? "|" : "<") + std::string(1, "iuf"[dtype.dlpack_code]) +
                           std::to_string(dtype.size);
    described["data"] = nb::make_tuple(reinterpret_cast<std::uintptr_t>(tensor.data()), false);
    return described;
}

}  // namespace

void bind_tensor(nb::module_& module) {
    nb::class_<Tensor>(module, "Tensor", nb::type_slots(tensor_buffer_slots), nb::is_final())
        .def(nb::new_(&make_tensor), "shape"_a.none(), "dtype"_a = "float32",
             "device"_a = "cpu")
        .def_prop_ro("shape", &shape_tuple)
        .def_prop_ro("dtype", [](const Tensor& tensor) { return info(tensor.dtype()).name; })
        .def_prop_ro("size", &Tensor::size)
        .def_prop_ro("nbytes", &Tensor::nbytes)
        .def_prop_ro("ptr", [](const Tensor& tensor) { return reinterpret_cast<std::uintptr_t>(tensor.data()); })
        .def_prop_ro("device", [](const Tensor& tensor) { return tensor.device().name(); })
        .def_prop_ro("pinned", [](const Tensor& tensor) { return tensor.device().kind == Device::Kind::pinned; })
        .def_prop_ro("__array_interface__", &array_interface)
        .def("fill", &fill, "value"_a)
        .def("copy_from", &copy_from, "obj"_a.none())
        .def("slice", [](const Tensor& tensor, nb::handle index) {
                 return tensor.slice(integer("index", index, INT64_MIN, INT64_MAX));
             }, "index"_a.none())
        .def("__dlpack__", &to_dlpack, nb::kw_only(), "stream"_a = nb::none(), "max_version"_a = nb::none(),
             "dl_device"_a = nb::none(), "copy"_a = nb::none())
        .def("__dlpack_device__", &device_tuple)
        .def("__repr__", [](const Tensor& tensor) { return "Tensor(" + tensor.describe() + ")"; });
    module.def("tensor_from", &tensor_from, "obj"_a.none());
}

}  // namespace dossr
