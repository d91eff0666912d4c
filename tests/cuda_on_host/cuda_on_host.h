// The stand-in for <cuda_runtime.h>: kernels (execute.h) and the calls of the runtime (runtime.h).
#pragma once

#include "execute.h"
#include "runtime.h"

namespace cuda_on_host {

// As kernel<<<grid, block, shared_bytes, stream>>>(arguments...): refused launches are what cudaGetLastError() gives next.
// `submit`, of runtime.h, runs the launch or, while the stream is captured, notes it.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            Arguments... arguments) {
    submit(stream, Launch{grid, block, shared_bytes, reinterpret_cast<const void*>(kernel),
                          [=] { kernel(static_cast<Parameters>(arguments)...); }});
}

}  // namespace cuda_on_host

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int value) {
    return cuda_on_host::allow_dynamic_memory(reinterpret_cast<const void*>(kernel), static_cast<std::size_t>(value))
               ? cudaSuccess
               : cudaErrorInvalidValue;
}
