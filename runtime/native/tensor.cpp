#include "tensor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <stdexcept>

#include "device_memory.h"

namespace dossr {
namespace {

constexpr std::array<DtypeInfo, 6> kDtypes{{
    {Dtype::float32, "float32", "f", 4, 2},
    {Dtype::uint8, "uint8", "B", 1, 1},
    {Dtype::float16, "float16", "e", 2, 2},
    {Dtype::int64, "int64", "q", 8, 0},
    {Dtype::float64, "float64", "d", 8, 2},
    {Dtype::uint16, "uint16", "H", 2, 1},
}};

constexpr std::size_t kAlignment = 64;

// Bytes of the tensor, counting a side of 0 as 1, so that the strides of an empty tensor cannot overflow either.
std::int64_t extent(const Shape& shape, Dtype dtype) {
    const std::int64_t limit = std::numeric_limits<std::ptrdiff_t>::max() - static_cast<std::ptrdiff_t>(kAlignment);
    std::int64_t bytes = info(dtype).size;
    for (const std::int64_t side : shape) {
        if (side < 0) {
            throw std::invalid_argument("shape: sides must be 0 or more, got " + describe(info(dtype).name, shape));
        }
        const std::int64_t factor = std::max<std::int64_t>(side, 1);
        if (bytes > limit / factor) {
            throw OutOfMemory(describe(info(dtype).name, shape) + " has more bytes than an address space");
        }
        bytes *= factor;
    }
    return bytes;
}

// calloc takes untouched pages from the system, which are zero already; the address is then rounded up.
std::shared_ptr<void> zeroed(std::int64_t bytes, const std::string& what) {
    void* const base = std::calloc(static_cast<std::size_t>(bytes) + kAlignment, 1);
    if (base == nullptr) throw OutOfMemory("no memory for " + what + ": " + std::to_string(bytes) + " bytes");
    const auto address = reinterpret_cast<std::uintptr_t>(base);
    const std::shared_ptr<void> owner(base, std::free);
    return {owner, reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment)};
}

// IEEE half of a double, rounded once, half to even; beyond the range, infinity.
std::uint16_t half_of(double value) {
    const std::uint16_t sign = std::signbit(value) ? 0x8000u : 0u;
    const double magnitude = std::fabs(value);
    if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00u);
    if (magnitude >= 65520.0) return static_cast<std::uint16_t>(sign | 0x7c00u);
    // In units of the last place; a carry out of the fraction runs into the exponent, as it should.
    const int exponent = std::max(magnitude > 0.0 ? std::ilogb(magnitude) : -14, -14);
    const auto steps = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
    return static_cast<std::uint16_t>(sign | (((exponent + 14) << 10) + steps));
}

template <typename T>
T integer_of(double value, double below, const char* name) {
    if (!(value >= static_cast<double>(std::numeric_limits<T>::min()) && value < below) ||
        value != std::trunc(value)) {
        throw std::invalid_argument("value: " + std::string(name) + " cannot hold " + std::to_string(value));
    }
    return static_cast<T>(value);
}

}  // namespace

const DtypeInfo& info(Dtype dtype) noexcept { return kDtypes[static_cast<std::size_t>(dtype)]; }

const DtypeInfo* find_dtype(const std::string& name) noexcept {
    const auto found =
        std::find_if(kDtypes.begin(), kDtypes.end(), [&](const DtypeInfo& entry) { return name == entry.name; });
    return found == kDtypes.end() ? nullptr : &*found;
}

std::string dtype_names() {
    std::string names;
    for (const DtypeInfo& entry : kDtypes) names += (names.empty() ? "" : ", ") + std::string(entry.name);
    return names;
}

std::string describe(const std::string& dtype, const Shape& shape) {
    std::string text = dtype + " [";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + "]";
}

Tensor::Tensor(Shape shape, Dtype dtype, Device device) {
    lay_out(std::move(shape), dtype, device);
    data_ = device.kind == Device::Kind::host ? zeroed(nbytes(), describe())
                                              : zeroed_for_cuda(nbytes(), device, dossr::describe(info(dtype).name, shape_));
}

Tensor Tensor::of(std::shared_ptr<void> memory, Shape shape, Dtype dtype, Device device) {
    Tensor tensor;
    tensor.lay_out(std::move(shape), dtype, device);
    tensor.data_ = std::move(memory);
    return tensor;
}

void Tensor::lay_out(Shape shape, Dtype dtype, Device device) {
    shape_ = std::move(shape);
    dtype_ = dtype;
    device_ = device;
    if (shape_.size() > kMaxRank) {
        throw std::invalid_argument("shape: at most " + std::to_string(kMaxRank) + " sides, got " +
                                    std::to_string(shape_.size()));
    }
    const std::int64_t most = extent(shape_, dtype_);
    strides_.resize(shape_.size());
    std::int64_t stride = 1;
    for (std::size_t i = shape_.size(); i-- > 0;) {
        strides_[i] = stride;
        stride *= std::max<std::int64_t>(shape_[i], 1);
    }
    const bool empty = std::find(shape_.begin(), shape_.end(), 0) != shape_.end();
    size_ = empty ? 0 : most / info(dtype_).size;
}

std::string Tensor::describe() const {
    return dossr::describe(info(dtype_).name, shape_) + (device_.on_cuda() ? " on " + device_.name() : "");
}

void Tensor::fill(double value) {
    const auto set = [this](auto element) { std::fill_n(as<decltype(element)>(), size_, element); };
    switch (dtype_) {
        case Dtype::float32: return set(static_cast<float>(value));
        case Dtype::float64: return set(value);
        case Dtype::float16: return set(half_of(value));
        case Dtype::uint8: return set(integer_of<std::uint8_t>(value, 0x1p8, "uint8"));
        case Dtype::uint16: return set(integer_of<std::uint16_t>(value, 0x1p16, "uint16"));
        case Dtype::int64: return set(integer_of<std::int64_t>(value, 0x1p63, "int64"));
    }
}

Tensor Tensor::slice(std::int64_t index) const {
    if (shape_.empty()) throw std::invalid_argument("slice: the tensor has no axes");
    const std::int64_t count = shape_[0];
    const std::int64_t at = index < 0 ? index + count : index;
    if (at < 0 || at >= count) {
        throw std::out_of_range("slice: index " + std::to_string(index) + " is outside " + describe());
    }
    Tensor item;
    item.shape_.assign(shape_.begin() + 1, shape_.end());
    item.strides_.assign(strides_.begin() + 1, strides_.end());
    item.dtype_ = dtype_;
    item.device_ = device_;
    item.size_ = size_ / count;
    item.data_ = std::shared_ptr<void>(data_, as<char>() + at * item.nbytes());
    return item;
}

bool overlap(const void* a, std::int64_t a_bytes, const void* b, std::int64_t b_bytes) noexcept {
    const auto a_begin = reinterpret_cast<std::uintptr_t>(a), b_begin = reinterpret_cast<std::uintptr_t>(b);
    return a_bytes > 0 && b_bytes > 0 && a_begin < b_begin + static_cast<std::uintptr_t>(b_bytes) &&
           b_begin < a_begin + static_cast<std::uintptr_t>(a_bytes);
}

}  // namespace dossr
