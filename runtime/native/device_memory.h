// Memory for GPUs. device_memory.cpp has it from CUDA; no_cuda.cpp stands in its place in a build without CUDA,
// where every function throws CudaError.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "device.h"

namespace dossr {

// Zeroed memory on a GPU or pinned on the host; `what` names it in errors. Never null, even of 0 bytes. The zeroes are
// there for every stream. Throws OutOfMemory, CudaError.
std::shared_ptr<void> zeroed_for_cuda(std::int64_t bytes, const Device& device, const std::string& what);

// Copies between two places of one GPU's memory and waits for it.
void copy_on_device(void* target, const void* source, std::int64_t bytes, const Device& device);

// Waits for all work on that GPU.
void synchronize_device(const Device& device);

}  // namespace dossr
