"""An NVIDIA GPU as a `Device`: kernels and engines share one stream, and nothing waits until a picture is wanted. In:
tensors in device memory. Out: the same; pictures come and go through pinned memory, on streams of their own.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from engines.base import DEVICE_SETUP
from engines.errors import EngineUnavailableError
from runtime import kernels
from runtime.clock import Clock
from runtime.cuda_kernels import CudaKernels
from runtime.engine_pool import PooledCall
from runtime.kernels import Tensor
from runtime.noise import NoiseSource
from runtime.recording import Recordings
from solvers import Plan

if TYPE_CHECKING:
    from runtime._native_cuda import CudaEvent

_SLICE = 1e-4
"""Seconds between two looks at an event."""


def unavailable(place: str) -> str:
    """Why our kernels do not run at that place; empty where they do."""
    if kernels.cuda is None:
        return "runtime._native was built without CUDA; install nvcc, then `pip install --force-reinstall --no-deps .`"
    if not kernels.cuda.runs_on(_index(place)):
        return f"runtime._native has code for {', '.join(kernels.cuda.architectures)} alone; build it on this machine"
    return ""


class Cuda:
    """See `runtime.device.Device`. Not for two threads at once.

    Args:
        place: cuda:N.

    Raises:
        EngineUnavailableError: `unavailable` there.
    """

    sizes_kept = 4

    def __init__(self, place: str) -> None:
        if kernels.cuda is None:
            raise EngineUnavailableError(unavailable(place))
        self.name = place
        self._pinned = place.replace("cuda", "pinned")
        self.native = kernels.cuda
        with DEVICE_SETUP:
            self.work, self.uploads, self.downloads = (self.native.Stream(_index(place)) for _ in range(3))
        self.stream = self.work.ptr
        self.last: CudaEvent | None = None
        """The end of the batch that was put there last."""
        self._kept: list[Tensor] = []
        self._left: list[tuple[CudaEvent, list[Tensor]]] = []
        """Buffers of batches that were stopped, and the end of what still works on them."""
        self._instant = self._agreed()

    def tensor(self, shape: tuple[int, ...], dtype: str = "float32") -> Tensor:
        """See `runtime.device.Device.tensor`."""
        with DEVICE_SETUP:
            return Tensor(shape, dtype, self.name)

    def vector(self, values: Sequence[float], shape: tuple[int, ...] | None = None) -> Tensor:
        """See `runtime.device.Device.vector`."""
        here = kernels.tensor_from(memoryview(array("f", values)).cast("B").cast("f", shape or (len(values),)))
        there = self.tensor(here.shape)
        self.work.copy(there, here)
        self.work.synchronize()
        return there

    def kernels(self, plan: Plan, noise: NoiseSource) -> CudaKernels:
        """See `runtime.device.Device.kernels`."""
        return CudaKernels(self, plan, noise)

    def recorded_kernels(self, plan: Plan, noise: NoiseSource, buffers: Sequence[Tensor]) -> CudaKernels:
        """Kernels for a capture of `work`: they take these buffers, in order, and put everything on that stream."""
        return CudaKernels(self, plan, noise, buffers)

    def recordings(self, calls: Sequence[PooledCall]) -> Recordings:
        """See `runtime.device.Device.recordings`."""
        return Recordings(self, calls)

    def time(self, clock: Clock) -> None:
        """See `runtime.device.Device.time`."""
        if self.last is None or self.last.done:
            self.agree()
        clock.follow(self.work.mark, partial(_nanoseconds, self._instant))

    def agree(self) -> None:
        """Looks anew how events and the host's clock go together; for when the device is idle."""
        self._instant = self._agreed()

    def nanoseconds(self, event: CudaEvent) -> int:
        """When the event happened on the host's clock (`time.perf_counter_ns`)."""
        return _nanoseconds(self._instant, event)

    def synchronize(self) -> None:
        """See `runtime.device.Device.synchronize`."""
        for stream in (self.uploads, self.work, self.downloads):
            stream.synchronize()
        self._take_back()

    def take(self, shape: tuple[int, ...], dtype: str, place: str) -> Tensor:
        """A buffer at "pinned" or on the device; a kept one where one fits, with whatever it holds."""
        self._take_back()
        for i, kept in enumerate(self._kept):
            if (kept.shape, kept.dtype, "pinned" if kept.pinned else kept.device) == (shape, dtype, place):
                return self._kept.pop(i)
        with DEVICE_SETUP:
            return Tensor(shape, dtype, self._pinned if place == "pinned" else place)

    def give_back(self, buffers: Sequence[Tensor]) -> None:
        """Buffers of a batch that is done: as many as two batches need are kept."""
        with DEVICE_SETUP:
            self._kept = [*self._kept, *buffers][-2 * len(buffers) :]

    def wait_for(self, event: CudaEvent, check: Callable[[], None]) -> None:
        """Waits in slices, so that Ctrl-C and what `check` raises end it."""
        while not event.done:
            check()
            time.sleep(_SLICE)
        event.synchronize()

    def leave(self, buffers: list[Tensor]) -> None:
        """Buffers of a batch that was stopped: given back when what is on the streams now is done."""
        self.downloads.wait(self.uploads.record())
        self.downloads.wait(self.work.record())
        self._left.append((self.downloads.record(), buffers))

    def _take_back(self) -> None:
        while self._left and self._left[0][0].done:
            self.give_back(self._left.pop(0)[1])

    def _agreed(self) -> tuple[CudaEvent, int]:
        """One instant, as an event of the stream and on the host's clock."""
        event = self.work.record()
        event.synchronize()
        return event, time.perf_counter_ns()


def _index(place: str) -> int:
    return int(place.removeprefix("cuda:"))


def _nanoseconds(agreed: tuple[CudaEvent, int], event: CudaEvent) -> int:
    """When the event happened on the host's clock (`time.perf_counter_ns`)."""
    return agreed[1] + round(event.seconds_since(agreed[0]) * 1e9)
