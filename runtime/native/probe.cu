#include "probe.h"

#include "launch.h"

namespace dossr {
namespace {

__global__ void probe() {}

}  // namespace

const void* probe_kernel() noexcept { return reinterpret_cast<const void*>(&probe); }

}  // namespace dossr
