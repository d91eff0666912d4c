"""The NVIDIA driver and its GPUs. In: the driver's library, through ctypes. Out: a `Driver`, or why there is none."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

from engines.errors import EngineUnavailableError


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU, as CUDA counts them."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory: int
    free: int | None


@dataclass(frozen=True, kw_only=True)
class Driver:
    """The installed driver."""

    version: tuple[int, int]
    release: str | None
    gpus: tuple[Gpu, ...]


@cache
def driver() -> Driver:
    """The driver and every GPU that this process may use.

    Raises:
        EngineUnavailableError: no driver, or no GPU.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EngineUnavailableError(
            f"NVIDIA's driver does not load ({error}); install it, or use --device cpu"
        ) from error
    version, count = ctypes.c_int(), ctypes.c_int()
    code = (
        cuda.cuInit(0) or cuda.cuDriverGetVersion(ctypes.byref(version)) or cuda.cuDeviceGetCount(ctypes.byref(count))
    )
    if code or not count.value:
        raise EngineUnavailableError(f"NVIDIA's driver finds no GPU (code {code}); see nvidia-smi, or use --device cpu")
    gpus = []
    for index in range(count.value):
        name, memory, parts = ctypes.create_string_buffer(256), ctypes.c_size_t(), [ctypes.c_int(), ctypes.c_int()]
        cuda.cuDeviceGetName(name, 256, index)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), index)
        for part, attribute in zip(parts, (75, 76), strict=True):
            cuda.cuDeviceGetAttribute(ctypes.byref(part), attribute, index)
        capability = (parts[0].value, parts[1].value)
        gpus.append(
            Gpu(index=index, name=name.value.decode(), compute_capability=capability, memory=memory.value, free=None)
        )
    return Driver(version=divmod(version.value, 1000), release=None, gpus=tuple(gpus))
