"""Whole pictures as CUDA graphs. In: a batch whose engines only put work on the stream. Out: the batch, put there by
one launch, from the upload of its pixels to the download of its results.

The first batch of a kind runs plainly, which also sets the engines up; the second is recorded and launched; later ones
write their pixels, seed and coefficients into the recording's pinned memory and launch it again. A recording keeps that
memory, and its own on the device: about the bytes of the pixels and results and of one float picture for the color fix,
twice where two batches are in flight. Plain launches take its place wherever it does not go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from engines.base import DEVICE_SETUP, Call
from engines.errors import DossrError
from engines.memory import format_size
from runtime import kernels
from runtime.clock import Clock
from runtime.control import Control, Progress
from runtime.device import Kernels, Needs
from runtime.engine_pool import PooledCall
from runtime.images import Picture
from runtime.kernels import Tensor
from runtime.noise import Philox, noise_source

if TYPE_CHECKING:
    from runtime._native_cuda import CudaEvent, CudaGraph
    from runtime.cuda import Cuda
    from runtime.cuda_kernels import CudaKernels
    from runtime.pipeline import Job

KINDS = 4
"""Kinds of batches of one size that are kept as graphs; what was used longest ago goes first."""
IN_FLIGHT = 2
"""Recordings of one kind: one runs while the next is written."""
Walk = Callable[[Kernels, "Job", Clock], None]
"""Puts a batch on the device."""
_log = logging.getLogger("dossr")


class Recordings:
    """The recordings of one workspace. Not for two threads at once.

    Args:
        device: whose stream.
        calls: every engine call of a batch.
    """

    def __init__(self, device: Cuda, calls: Sequence[PooledCall]) -> None:
        self._device, self._calls = device, calls
        self._seen: dict[Hashable, Needs] = {}
        """Kinds that ran plainly, and the buffers that they took."""
        self._kept: dict[Hashable, list[Recording]] = {}
        """The kind that was used last comes last."""
        self._failed: set[Hashable] = set()

    def submit(
        self, pictures: Sequence[Picture], pixels: Sequence[Tensor], job: Job, clock: Clock, walk: Walk
    ) -> Recording | None:
        """Puts the batch there by a launch; None: it has to go plainly.

        Args:
            pictures: of the workspace's size.
            pixels: host tensors for the results.
            job: how.
            clock: gets the instants of the launch when it is done.
            walk: puts the batch there plainly.

        Raises:
            EngineError: CUDA failed.
            StoppedError: of the job's control.
        """
        kind = _kind(pictures, job)
        bound = tuple(call.bound for call in self._calls)
        if kind is None or kind in self._failed or kind not in self._seen:
            return None
        if any(call is None or not call.recordable for call in bound):
            return None
        state = tuple((call, call.version) for call in bound if call is not None)
        recordings = self._kept.pop(kind, [])
        recordings = [recording for recording in recordings if recording.busy or recording.state == state]
        self._kept[kind] = recordings
        for recording in recordings:
            if not recording.busy and recording.state == state:
                return recording.launch(pictures, pixels, job, clock)
        if len(recordings) >= IN_FLIGHT:
            return None
        while len(self._kept) > KINDS:
            self._drop(next(iter(self._kept)))
        made = self._recorded(kind, state, job, walk)
        if made is None:
            return None
        recordings.append(made)
        return made.launch(pictures, pixels, job, clock)

    def ran_plainly(self, pictures: Sequence[Picture], job: Job, needs: Needs) -> None:
        """Learns from a plain run of a batch what it takes: the next one of its kind is recorded."""
        kind = _kind(pictures, job)
        if kind is not None:
            self._seen[kind] = needs

    def clear(self) -> None:
        """Frees every recording, when what they were launched for is done."""
        self._device.synchronize()
        for kind in list(self._kept):
            self._drop(kind)

    def _drop(self, kind: Hashable) -> None:
        for recording in self._kept.pop(kind):
            if not recording.busy:  # else it is freed with the batch that it was launched for
                recording.free()

    def _recorded(self, kind: Hashable, state: tuple[tuple[Call, int], ...], job: Job, walk: Walk) -> Recording | None:
        """Captures a batch, without running it; None, and a word, where that fails."""
        device = self._device
        buffers = [device.take(*need) for need in self._seen[kind]]
        told: list[Progress] = []
        noted = dataclasses.replace(job, control=Control(on_progress=told.append))
        tape = Clock()
        with DEVICE_SETUP, _without_collection():
            device.work.begin_capture()
            try:
                tape.follow(device.work.mark, device.nanoseconds)
                written = device.recorded_kernels(job.plan, noise_source(job.noise, job.seed), buffers)
                walk(written, noted, tape)
                graph = device.work.end_capture()
            except BaseException as error:
                with contextlib.suppress(kernels.CudaError, RuntimeError):
                    device.work.end_capture()
                device.give_back(buffers)
                if not isinstance(error, DossrError | kernels.CudaError | RuntimeError | MemoryError):
                    raise  # Ctrl-C
                self._failed.add(kind)
                _log.warning("pictures of this kind are not replayed as one CUDA graph: %s", error)
                return None
        made = Recording(device, graph, written, tape, told, state)
        _log.debug("recorded a picture: %d kernels, %s of its own", graph.kernels, format_size(made.nbytes))
        return made


class Recording:
    """One batch's work as a CUDA graph.

    Args:
        device: whose stream.
        graph: the work.
        written: the kernels that were captured, with their buffers.
        tape: what instants were marked on the way.
        told: what was told to `Job.control` on the way.
        state: the engines' calls that were captured, and their versions; alive as long as the graph is.
    """

    def __init__(
        self,
        device: Cuda,
        graph: CudaGraph,
        written: CudaKernels,
        tape: Clock,
        told: Sequence[Progress],
        state: tuple[tuple[Call, int], ...],
    ) -> None:
        self._device, self._graph, self._written, self._tape, self._told = device, graph, written, tape, told
        self.state = state
        self._done: CudaEvent | None = None
        """The end of the last launch."""
        self._clock: Clock | None = None
        """Of the batch that has not been asked for."""

    @property
    def nbytes(self) -> int:
        """Bytes of pinned and device memory that it keeps; CUDA takes some more for the graph."""
        return sum(buffer.nbytes for buffer in self._written.buffers)

    @property
    def busy(self) -> bool:
        """Whether a batch that it was launched for has not been asked for."""
        return self._clock is not None

    def launch(self, pictures: Sequence[Picture], pixels: Sequence[Tensor], job: Job, clock: Clock) -> Recording:
        """Puts a batch of its kind on the stream; arguments as of `Recordings.submit`.

        Raises:
            EngineError: CUDA failed.
            StoppedError: of the job's control; then nobody asks for the batch.
        """
        if self._done is not None:  # a batch that nobody asked for may still be read from pinned memory
            self._device.wait_for(self._done, job.control.check)
        self._written.rewrite([picture.pixels for picture in pictures], job.plan, noise_source(job.noise, job.seed))
        self._written.expect(pixels)
        if self._device.last is None or self._device.last.done:
            self._device.agree()
        self._graph.launch(self._device.work)
        self._done = self._device.last = self._device.work.record()
        for told in self._told:
            job.control.report(told.stage, step=told.step, steps=told.steps, tile=told.tile, tiles=told.tiles)
        self._clock = clock
        return self

    def finish(self, check: Callable[[], None]) -> None:
        """See `runtime.device.Kernels.finish`."""
        if self._done is None or self._clock is None:
            return
        clock, self._clock = self._clock, None
        self._device.wait_for(self._done, check)
        clock.add(self._tape)  # now: the next launch marks other times
        self._written.collect()

    def abandon(self, *, wait: bool = False) -> None:
        """Instead of `finish`, for a batch that nobody asks for: the next launch, or `free`, waits for it."""
        if wait and self._done is not None:
            self._done.synchronize()
        self._clock = None

    def free(self) -> None:
        """Gives its buffers back, once the last launch is done: of a batch that was abandoned it may not be yet.

        Raises:
            CudaError: CUDA failed.
        """
        if self._done is not None:
            self._done.synchronize()
        self._device.give_back(self._written.buffers)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Python collects no garbage meanwhile: freeing an engine that nobody closed would break a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _kind(pictures: Sequence[Picture], job: Job) -> Hashable | None:
    """What a recording is fixed to; None for a batch that cannot be recorded."""
    if job.trace is not None or not isinstance(noise_source(job.noise, job.seed), Philox):
        return None
    views = [memoryview(picture.pixels) for picture in pictures]
    shapes = tuple(
        (view.shape, view.format, picture.grey, picture.bit_depth)
        for view, picture in zip(views, pictures, strict=True)
    )
    orders = tuple(len(step.c_p) for step in job.plan.steps)
    return shapes, orders, job.color_fix, job.bit_depth
