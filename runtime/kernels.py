"""The compiled module, or a named error that says how to get it. In: nothing. Out: its functions and classes."""

from collections.abc import Iterator
from contextlib import contextmanager

from engines.errors import DossrError, EngineError, EngineUnavailableError, MemoryBudgetError

try:
    from runtime._native import (
        CudaError,
        Tensor,
        TorchCpuGenerator,
        adain_fix,
        change_depth,
        crop_to_planar,
        cuda,
        image_to_planar,
        match_planes,
        philox_normal,
        planar_to_image,
        solver_step,
        start,
        tensor_from,
        tile_blend,
        tile_moments,
        tile_take,
        wavelet_fix,
    )
except ImportError as error:
    raise EngineUnavailableError(
        f"the compiled module runtime._native does not import ({error}); build it with `pip install -e .`"
    ) from error

_CPU, _GPU = 1, 2
"""DLPack's numbers."""

__all__ = [
    "CudaError",
    "Tensor",
    "TorchCpuGenerator",
    "adain_fix",
    "change_depth",
    "crop_to_planar",
    "cuda",
    "host_copy",
    "image_to_planar",
    "match_planes",
    "named_errors",
    "philox_normal",
    "planar_to_image",
    "solver_step",
    "start",
    "tensor_from",
    "tile_blend",
    "tile_moments",
    "tile_take",
    "wavelet_fix",
]


def host_copy(array: object) -> Tensor:
    """A copy on the host of an array with the buffer protocol or DLPack; one of an NVIDIA GPU must be C-contiguous.

    Errors as of `tensor_from`; CudaError where CUDA refuses.
    """
    kind, index = getattr(array, "__dlpack_device__", lambda: (_CPU, 0))()
    if kind != _GPU or cuda is None:
        return tensor_from(array)
    stream = cuda.Stream(int(index))
    there = cuda.from_dlpack(array, stream)
    here = Tensor(there.shape, there.dtype)
    stream.copy(here, there)
    stream.synchronize()
    return here


@contextmanager
def named_errors() -> Iterator[None]:
    """Turns what a device refuses into named errors.

    Raises:
        EngineError: CUDA failed, in its own words.
        MemoryBudgetError: there is not so much memory, of the host or of a GPU.
    """
    try:
        yield
    except CudaError as error:
        raise EngineError(str(error)) from error
    except MemoryError as error:
        if isinstance(error, DossrError):
            raise
        raise MemoryBudgetError(f"{error}; take a smaller picture or batch, or close other programs") from error
