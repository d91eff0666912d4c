"""The compiled module, or a named error that says how to get it. In: nothing. Out: its functions and classes."""

from engines.errors import EngineUnavailableError

try:
    from runtime._native import (
        CudaError,
        Tensor,
        TorchCpuGenerator,
        adain_fix,
        change_depth,
        cuda,
        image_to_planar,
        philox_normal,
        planar_to_image,
        solver_step,
        start,
        tensor_from,
        wavelet_fix,
    )
except ImportError as error:
    raise EngineUnavailableError(
        f"the compiled module runtime._native does not import ({error}); build it with `pip install -e .`"
    ) from error

__all__ = [
    "CudaError",
    "Tensor",
    "TorchCpuGenerator",
    "adain_fix",
    "change_depth",
    "cuda",
    "image_to_planar",
    "philox_normal",
    "planar_to_image",
    "solver_step",
    "start",
    "tensor_from",
    "wavelet_fix",
]
