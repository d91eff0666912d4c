#include <nanobind/stl/string.h>

#include <climits>
#include <sstream>

#include "arguments.h"
#include "bindings.h"
#include "cuda_check.h"
#include "probe.h"
#include "stream.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace dossr {
namespace {

int device_index(nb::handle device) { return static_cast<int>(integer("device", device, 0, INT_MAX)); }

nb::tuple memory(nb::handle device) {
    std::size_t free = 0, total = 0;
    const int index = device_index(device);
    {
        nb::gil_scoped_release released;
        const DeviceScope scope(index);
        check(cudaMemGetInfo(&free, &total), "asking for free memory");
    }
    return nb::make_tuple(free, total);
}

bool runs_on(nb::handle device) {
    const int index = device_index(device);
    nb::gil_scoped_release released;
    const DeviceScope scope(index);
    cudaFuncAttributes attributes{};
    const cudaError_t code = cudaFuncGetAttributes(&attributes, probe_kernel());
    if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorUnsupportedPtxVersion) {
        cudaGetLastError();
        return false;
    }
    check(code, "looking for kernels for the GPU");
    return true;
}

Tensor from_dlpack(nb::handle object, const Stream& stream) {
    const CudaConsumer consumer{stream.device(), reinterpret_cast<std::uintptr_t>(stream.handle())};
    const ForeignArray array(object, "obj", consumer);
    if (!array.contiguous()) {
        throw nb::value_error(
            ("obj: expected a C-contiguous array, got a strided " + array.describe() + "; copy it first").c_str());
    }
    const std::shared_ptr<void> memory(array.owner(), const_cast<std::uint8_t*>(array.data()));
    return Tensor::of(memory, array.shape(), array.dtype(), {Device::Kind::cuda, stream.device()});
}

void copy(const Stream& stream, const Tensor& target, const Tensor& source) {
    if (source.dtype() != target.dtype() || source.shape() != target.shape()) {
        const std::string text = "copy: target is " + target.describe() + ", source is " + source.describe();
        if (source.dtype() != target.dtype()) throw nb::type_error(text.c_str());
        throw nb::value_error(text.c_str());
    }
    const auto here = [&](const Tensor& tensor) {
        return tensor.device().on_cuda() && tensor.device().index == stream.device();
    };
    if (!here(target) && !here(source)) {
        throw nb::type_error(("copy: expected target or source on " + Device{Device::Kind::cuda, stream.device()}.name() +
                              ", as the stream is, got " + target.describe() + " and " + source.describe())
                                 .c_str());
    }
    require_apart({"target", target}, {{"source", source}});
    nb::gil_scoped_release released;
    stream.copy(target, source);
}

void zero(const Stream& stream, const Tensor& tensor) {
    require_device(stream.device(), {{"tensor", tensor}});
    stream.zero(tensor);
}

void launch(const Graph& graph, const Stream& stream) {
    if (graph.device() != stream.device()) {
        throw nb::value_error(("stream: expected one of " + Device{Device::Kind::cuda, graph.device()}.name() +
                               ", where the graph was captured, got one of " +
                               Device{Device::Kind::cuda, stream.device()}.name())
                                  .c_str());
    }
    nb::gil_scoped_release released;
    stream.launch(graph);
}

// "sm_80 compute_90" as a tuple.
nb::tuple architectures() {
    nb::list names;
    std::istringstream all(DOSSR_CUDA_ARCHITECTURES);
    for (std::string name; std::getline(all, name, ' ');) names.append(name);
    return nb::tuple(names);
}

void bind_stream(nb::module_& cuda) {
    const auto released = nb::call_guard<nb::gil_scoped_release>();
    nb::class_<Event>(cuda, "Event", nb::is_final())
        .def_prop_ro("done", &Event::done)
        .def("synchronize", &Event::synchronize, released)
        .def("seconds_since", &Event::seconds_since, "earlier"_a, released);
    nb::class_<Graph>(cuda, "Graph", nb::is_final())
        .def("launch", &launch, "stream"_a)
        .def_prop_ro("kernels", &Graph::kernels);
    nb::class_<Stream>(cuda, "Stream", nb::is_final())
        .def(nb::new_([](nb::handle device) {
                 const int index = device_index(device);
                 nb::gil_scoped_release unlocked;
                 return new Stream(index);
             }), "device"_a.none() = 0)
        .def_prop_ro("ptr", [](const Stream& stream) { return reinterpret_cast<std::uintptr_t>(stream.handle()); })
        .def_prop_ro("device",
                     [](const Stream& stream) { return Device{Device::Kind::cuda, stream.device()}.name(); })
        .def("copy", &copy, "target"_a, "source"_a)
        .def("zero", &zero, "tensor"_a)
        .def("record", [](const Stream& stream) { return new Event(stream.device(), stream.handle(), false); })
        .def("mark", [](const Stream& stream) { return new Event(stream.device(), stream.handle(), true); })
        .def("wait", &Stream::wait, "event"_a)
        .def("synchronize", &Stream::synchronize, released)
        .def("begin_capture", &Stream::begin_capture)
        .def("end_capture", &Stream::end_capture, released);
}

}  // namespace

void bind_cuda(nb::module_& module) {
    nb::module_ cuda = module.def_submodule("cuda");
    cuda.attr("architectures") = architectures();
    cuda.attr("runtime_version") = nb::make_tuple(CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    cuda.def("memory", &memory, "device"_a.none());
    cuda.def("runs_on", &runs_on, "device"_a.none());
    bind_stream(cuda);
    cuda.def("from_dlpack", &from_dlpack, "obj"_a.none(), "stream"_a);
    bind_cuda_kernels(cuda);
}

}  // namespace dossr
