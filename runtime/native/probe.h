// Whether the compiled kernels run on a GPU.
#pragma once

#include "cuda_api.h"

namespace dossr {

// A kernel that does nothing; all kernels are compiled for the same GPUs.
const void* probe_kernel() noexcept;

}  // namespace dossr
