// The CUDA runtime's functions: CUDA's, or the stand-in that tests run kernels with where there is no GPU.
#pragma once

#ifdef DOSSR_CUDA_ON_HOST
#include "cuda_on_host/runtime.h"
#else
#include <cuda_runtime_api.h>
#endif
