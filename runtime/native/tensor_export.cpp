#include "tensor_export.h"

namespace nb = nanobind;

namespace dossr {
namespace {

// Strides in bytes for Py_buffer, made for one view and deleted with it.
using ByteStrides = std::vector<Py_ssize_t>;

int get_buffer(PyObject* self, Py_buffer* view, int flags) noexcept {
    view->obj = nullptr;
    if (!nb::inst_ready(self)) {
        PyErr_SetString(PyExc_BufferError, "the Tensor was never initialised");
        return -1;
    }
    const Tensor& tensor = *nb::inst_ptr<Tensor>(self);
    if (tensor.device().on_cuda()) {
        PyErr_SetString(PyExc_BufferError, not_on_host(tensor).c_str());
        return -1;
    }
    const DtypeInfo& dtype = info(tensor.dtype());
    auto* strides = new (std::nothrow) ByteStrides;
    if (strides == nullptr) {
        PyErr_NoMemory();
        return -1;
    }
    for (const std::int64_t stride : tensor.strides()) strides->push_back(stride * dtype.size);
    static_assert(sizeof(Py_ssize_t) == sizeof(std::int64_t), "shapes are lent to Py_buffer as they are");
    view->buf = tensor.data();
    view->len = tensor.nbytes();
    view->itemsize = dtype.size;
    view->readonly = 0;
    view->ndim = static_cast<int>(tensor.shape().size());
    view->format = (flags & PyBUF_FORMAT) ? const_cast<char*>(dtype.buffer_format) : nullptr;
    view->shape = (flags & PyBUF_ND)
                      ? reinterpret_cast<Py_ssize_t*>(const_cast<std::int64_t*>(tensor.shape().data()))
                      : nullptr;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? strides->data() : nullptr;
    view->suboffsets = nullptr;
    view->internal = strides;
    view->obj = self;
    Py_INCREF(self);
    return 0;
}

void release_buffer(PyObject*, Py_buffer* view) noexcept { delete static_cast<ByteStrides*>(view->internal); }

template <typename Managed>
struct Export {
    explicit Export(const Tensor& tensor) : held(tensor), shape(tensor.shape()), strides(tensor.strides()) {
        const DtypeInfo& dtype = info(tensor.dtype());
        managed.array = {held.data(),
                         dlpack_device(tensor),
                         static_cast<std::int32_t>(shape.size()),
                         {dtype.dlpack_code, static_cast<std::uint8_t>(8 * dtype.size), 1},
                         shape.data(),
                         strides.data(),
                         0};
        managed.context = this;
        managed.deleter = [](Managed* owned) { delete static_cast<Export*>(owned->context); };
    }

    Tensor held;
    Shape shape;
    std::vector<std::int64_t> strides;
    Managed managed{};
};

// A consumer renames the capsule and takes over; one that nobody consumed frees its export itself.
template <typename Managed>
void free_unused(PyObject* capsule, const char* name) noexcept {
    if (!PyCapsule_IsValid(capsule, name)) return;
    auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
    managed->deleter(managed);
}

nb::object capsule_of(void* managed, const char* name, PyCapsule_Destructor destructor) {
    PyObject* const capsule = PyCapsule_New(managed, name, destructor);
    if (capsule == nullptr) throw nb::python_error();
    return nb::steal(capsule);
}

}  // namespace

std::string not_on_host(const Tensor& tensor) {
    return "a CPU cannot read or write " + tensor.describe() + "; copy it to a tensor of the CPU with Stream.copy";
}

dlpack::Device dlpack_device(const Tensor& tensor) noexcept {
    if (tensor.device().on_cuda()) return {dlpack::kCuda, tensor.device().index};
    return {dlpack::kCpu, 0};
}

PyType_Slot tensor_buffer_slots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
    {0, nullptr},
};

nb::object dlpack_capsule(const Tensor& tensor, bool versioned, bool copied) {
    if (versioned) {
        auto lent = std::make_unique<Export<dlpack::ManagedVersioned>>(tensor);
        lent->managed.version = {1, 0};
        lent->managed.flags = copied ? dlpack::kCopied : 0;
        nb::object capsule = capsule_of(&lent->managed, "dltensor_versioned", [](PyObject* self) {
            free_unused<dlpack::ManagedVersioned>(self, "dltensor_versioned");
        });
        lent.release();
        return capsule;
    }
    auto lent = std::make_unique<Export<dlpack::Managed>>(tensor);
    nb::object capsule = capsule_of(
        &lent->managed, "dltensor", [](PyObject* self) { free_unused<dlpack::Managed>(self, "dltensor"); });
    lent.release();
    return capsule;
}

}  // namespace dossr
