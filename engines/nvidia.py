"""The NVIDIA driver and its GPUs, through ctypes. In: the driver's libraries. Out: a `Driver`, or why there is none.

Asking creates no context, so that nothing is taken on a GPU. What the driver's own library does not say without one
(free memory, the release) comes from NVML, where that is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from engines.errors import EngineUnavailableError

_LIBRARY, _NVML = ("nvcuda.dll", "nvml.dll") if sys.platform == "win32" else ("libcuda.so.1", "libnvidia-ml.so.1")
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL."""
_NO_DEVICE, _SYSTEM_NOT_READY, _DRIVER_MISMATCH, _NOT_COMPATIBLE = 100, 802, 803, 804
_CODES = {
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    34: "CUDA_ERROR_STUB_LIBRARY",
    35: "cudaErrorInsufficientDriver",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    _NO_DEVICE: "CUDA_ERROR_NO_DEVICE",
    304: "CUDA_ERROR_OPERATING_SYSTEM",
    _SYSTEM_NOT_READY: "CUDA_ERROR_SYSTEM_NOT_READY",
    _DRIVER_MISMATCH: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    _NOT_COMPATIBLE: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    999: "CUDA_ERROR_UNKNOWN",
}
"""Names of cuda.h, for libraries that do not tell them."""
OR_CPU = "or use --device cpu"
"""What every error's advice ends with."""
OR_ONNXRUNTIME = "or use --engine onnxruntime"
"""What it ends with for TensorRT, which runs on no CPU."""
_INSTALL = f"install NVIDIA's driver, release 580 or newer (in a container start it with `--gpus all`), {OR_CPU}"
_UPDATE = f"update NVIDIA's driver to release 580 or newer, restart, {OR_CPU}"
_ADVICE = {
    34: f"a stub of the CUDA toolkit was found in the driver's place: take its folder out of LD_LIBRARY_PATH, {OR_CPU}",
    35: _UPDATE,
    46: f"another process holds the GPU for itself (see `nvidia-smi`): end it, {OR_CPU}",
    _NO_DEVICE: f"check CUDA_VISIBLE_DEVICES and `nvidia-smi`, in a container start it with `--gpus all`, {OR_CPU}",
    304: f"check the permissions of /dev/nvidia*, in a container start it with `--gpus all`, {OR_CPU}",
    _SYSTEM_NOT_READY: f"start NVIDIA's fabric manager (`systemctl start nvidia-fabricmanager`), {OR_CPU}",
    _DRIVER_MISMATCH: "the driver's library is not of the release that the kernel has loaded: restart the machine, "
    + OR_CPU,
    _NOT_COMPATIBLE: f"take the cuda-compat package out of LD_LIBRARY_PATH, or {_UPDATE}",
}
_ELSE = f"see whether `nvidia-smi` works, restart the machine, {OR_CPU}"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU, as CUDA counts them: after CUDA_VISIBLE_DEVICES."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory: int
    """Bytes in all."""
    free: int | None
    """Bytes that no process held when this was asked; None where NVML does not say."""


@dataclass(frozen=True, kw_only=True)
class Driver:
    """The installed driver."""

    version: tuple[int, int]
    """The CUDA version that it supports."""
    release: str | None
    """Its own version, like "580.95.05"; None where NVML does not say."""
    gpus: tuple[Gpu, ...]

    def supports(self, runtime: tuple[int, int]) -> bool:
        """Whether programs built with that CUDA version run on it: those of one major version do ("minor version
        compatibility", docs.nvidia.com/deploy/cuda-compatibility), if they hold machine code for the GPU.
        """
        return self.version[0] >= runtime[0]


@cache
def driver() -> Driver:
    """The driver and every GPU that this process may use, asked once a process.

    Raises:
        EngineUnavailableError: no driver, no GPU, or the driver refuses.
    """
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise EngineUnavailableError(f"{_LIBRARY}, the NVIDIA driver, does not load ({error}); {_INSTALL}") from error
    call = partial(_call, cuda)
    call("cuInit", 0)
    version = _integer(partial(call, "cuDriverGetVersion"))
    with _Nvml() as nvml:
        gpus = tuple(_gpu(call, nvml, index) for index in range(_integer(partial(call, "cuDeviceGetCount"))))
        if not gpus:
            raise EngineUnavailableError(f"the NVIDIA driver counts no GPU; {_ADVICE[_NO_DEVICE]}")
        return Driver(version=(version // 1000, version % 1000 // 10), release=nvml.release(), gpus=gpus)


@contextlib.contextmanager
def advising_onnxruntime() -> Iterator[None]:
    """The advice of the driver's errors ends with `OR_ONNXRUNTIME` inside.

    Raises:
        EngineUnavailableError: what the block raises, so worded.
    """
    try:
        yield
    except EngineUnavailableError as error:
        raise EngineUnavailableError(f"{str(error).removesuffix(OR_CPU)}{OR_ONNXRUNTIME}") from error


def ignore_captures() -> None:
    """From now on graphs that other threads record are none of this thread's business: else most calls of CUDA here
    would be refused meanwhile, and break the recording. Does nothing where there is no driver.
    """
    mode = ctypes.c_int(_THREAD_LOCAL)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(_LIBRARY).cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))


@contextlib.contextmanager
def on_gpu(index: int) -> Iterator[None]:
    """Makes a GPU the calling thread's current one during the block, in the context that CUDA's runtime uses, too.

    Raises:
        EngineUnavailableError: the driver refuses.
    """
    push, pop = _context(index)
    push()
    try:
        yield
    finally:
        pop()


@cache
def _context(index: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Makes the GPU's primary context current, and what was current before. The context is kept as long as the process
    lives, as CUDA's runtime does.
    """
    driver()
    call = partial(_call, ctypes.CDLL(_LIBRARY))
    context = ctypes.c_void_p()
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), _integer(partial(call, "cuDeviceGet"), index))
    return partial(call, "cuCtxPushCurrent_v2", context), partial(
        call, "cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p())
    )


def free_memory(index: int) -> int | None:
    """Bytes of a GPU that no process holds now; None where NVML does not say.

    Raises:
        EngineUnavailableError: see `driver`.
    """
    driver()
    call = partial(_call, ctypes.CDLL(_LIBRARY))
    with _Nvml() as nvml:
        return _gpu(call, nvml, index).free


def _gpu(call: Callable[..., None], nvml: _Nvml, index: int) -> Gpu:
    device = _integer(partial(call, "cuDeviceGet"), index)
    name = ctypes.create_string_buffer(256)
    call("cuDeviceGetName", name, len(name), device)
    memory = ctypes.c_size_t()
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    capability = tuple(_integer(partial(call, "cuDeviceGetAttribute"), which, device) for which in (_MAJOR, _MINOR))
    uuid = ctypes.create_string_buffer(16)
    try:
        call("cuDeviceGetUuid_v2", uuid, device)
    except EngineUnavailableError:  # drivers before 11.4 do not have it: no free memory then
        free = None
    else:
        free = nvml.free(uuid.raw.hex())
    return Gpu(
        index=index,
        name=name.value.decode(errors="replace"),
        compute_capability=(capability[0], capability[1]),
        memory=memory.value,
        free=free,
    )


def _integer(call: Callable[..., None], *arguments: int) -> int:
    """What a call writes through its first argument."""
    value = ctypes.c_int()
    call(ctypes.byref(value), *arguments)
    return value.value


def _call(cuda: Any, function: str, *arguments: Any) -> None:
    try:
        code = getattr(cuda, function)(*arguments)
    except AttributeError as error:
        raise EngineUnavailableError(
            f"{_LIBRARY} has no {function}: it is no NVIDIA driver, or one before CUDA 11; {_UPDATE}"
        ) from error
    if code:
        raise EngineUnavailableError(
            f"the NVIDIA driver ({_LIBRARY}) is there, but {function} fails with {_name(cuda, code)} ({code}); "
            f"{_ADVICE.get(code, _ELSE)}"
        )


def _name(cuda: Any, code: int) -> str:
    text = ctypes.c_char_p()
    with contextlib.suppress(AttributeError):
        cuda.cuGetErrorName(code, ctypes.byref(text))
    return text.value.decode(errors="replace") if text.value else _CODES.get(code, "an unknown code")


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Nvml:
    """NVML where it is there and answers; None for each answer where not."""

    def __enter__(self) -> _Nvml:
        try:
            self._library: Any = ctypes.CDLL(_NVML)
        except OSError:
            self._library = None
        self._ready = self._asked("nvmlInit_v2")
        return self

    def __exit__(self, *_error: object) -> None:
        if self._ready:
            self._asked("nvmlShutdown")

    def release(self) -> str | None:
        """The driver's own version."""
        text = ctypes.create_string_buffer(96)
        asked = self._ready and self._asked("nvmlSystemGetDriverVersion", text, len(text))
        return text.value.decode(errors="replace") if asked else None

    def free(self, uuid: str) -> int | None:
        """Free bytes of a GPU, or of a part of one (MIG), which NVML counts in another order than CUDA."""
        dashed = "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
        handle, memory = ctypes.c_void_p(), _Memory()
        for kind in ("GPU", "MIG") if self._ready else ():
            if self._asked("nvmlDeviceGetHandleByUUID", f"{kind}-{dashed}".encode(), ctypes.byref(handle)):
                asked = self._asked("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
                return int(memory.free) if asked else None
        return None

    def _asked(self, function: str, *arguments: Any) -> bool:
        """Whether NVML answered."""
        try:
            return bool(getattr(self._library, function)(*arguments) == 0)
        except AttributeError:
            return False
