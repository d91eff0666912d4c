"""What is done to the pictures of one batch on a GPU. In: tensors in device memory. Out: the same; see
`runtime.device.Kernels`. Long as that protocol is.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engines.base import DEVICE_SETUP
from runtime import kernels
from runtime.device import Needs, SamplerState, Windows
from runtime.guard import check_picture, check_start, check_step
from runtime.kernels import Tensor
from runtime.noise import NoiseSource, Philox, fill_items
from solvers import Plan
from solvers.plan import Step

if TYPE_CHECKING:
    from runtime._native_cuda import CudaEvent
    from runtime.cuda import Cuda

_COLUMNS = 12
"""Of a plan's rows in device memory: timestep, p_x, p_out, p_hat, c_x, c_hat, c_p (three), c_z, and two unused."""
_AHEAD = 2
"""Batches of tiles that are on the device, the running one included."""
_SAMPLES = {"B": "uint8", "H": "uint16"}


class CudaKernels:
    """See `runtime.device.Kernels`. What changes from picture to picture (seed, coefficients) is in device memory."""

    def __init__(
        self, device: Cuda, plan: Plan, noise: NoiseSource, recorded_in: Sequence[Tensor] | None = None
    ) -> None:
        self._device, self._plan, self._noise = device, plan, noise
        self._recorded_in = None if recorded_in is None else iter(recorded_in)
        """The buffers of a capture, in which nothing may be allocated."""
        self._up, self._down = (device.uploads, device.downloads) if recorded_in is None else (device.work, device.work)
        self._native, self._work = device.native, device.work
        self._drawn = isinstance(noise, Philox)
        """Whether the noise is made in the kernels' registers."""
        self.buffers: list[Tensor] = []
        self._kept: dict[tuple[tuple[int, ...], str, str], Tensor] = {}
        self._marks: list[CudaEvent] = []
        """Of `keep_pace`."""
        self._given: list[Tensor] = []
        """The pictures in pinned memory."""
        self._pixels: list[tuple[Tensor, Tensor]] = []
        self._done: CudaEvent | None = None
        try:
            self._seed_here, self._seed = self._sent(_seed(noise), (1,), "int64")
            self._rows_here, self._rows = self._sent(_table(plan), (len(plan.steps) + 1, _COLUMNS), "float32")
            self._largest = self._buffer((len(plan.steps) + 2,), "float32", device.name)
            self._seen = self._buffer(self._largest.shape, "float32", "pinned")
            self._work.zero(self._largest)
        except BaseException:
            self.abandon()
            raise

    def upload(self, pixels: Sequence[object], out: Tensor) -> None:
        """See `runtime.device.Kernels.upload`."""
        for item, given in enumerate(pixels):
            self._native.image_to_planar(self._work, self.hold(given), out, item)

    def hold(self, pixels: object) -> Tensor:
        """See `runtime.device.Kernels.hold`."""
        view = memoryview(pixels)  # type: ignore[arg-type]  # a Picture's pixels are a buffer
        here = self._buffer(view.shape or (), _SAMPLES[view.format], "pinned")
        here.copy_from(pixels)
        self._given.append(here)
        there = self._buffer(here.shape, here.dtype, self._device.name)
        self._up.copy(there, here)
        if self._up is not self._work:
            self._work.wait(self._up.record())
        return there

    def crop(self, held: object, y: int, x: int, out: Tensor, item: int) -> None:
        """See `runtime.device.Kernels.crop`."""
        assert isinstance(held, Tensor)  # what `hold` gave
        self._native.crop_to_planar(self._work, held, y, x, out, item)

    def keep_pace(self, check: Callable[[], None]) -> None:
        """See `runtime.device.Kernels.keep_pace`: all but the last batches of tiles."""
        self._marks.append(self._work.record())
        if len(self._marks) > _AHEAD:
            self._device.wait_for(self._marks.pop(0), check)

    def zero(self, tensor: Tensor) -> None:
        """See `runtime.device.Kernels.zero`."""
        self._work.zero(tensor)

    def take(self, canvas: Tensor, tile: Tensor, y: int, x: int, item: int = 0) -> None:
        """See `runtime.device.Kernels.take`."""
        self._native.tile_take(self._work, canvas, tile, y, x, item)

    def blend(self, tile: Tensor, canvas: Tensor, windows: Windows, y: int, x: int, item: int = 0) -> None:
        """See `runtime.device.Kernels.blend`."""
        self._native.tile_blend(self._work, tile, canvas, *windows, y, x, item)

    def match(self, planes: Tensor, moves: Tensor) -> None:
        """See `runtime.device.Kernels.match`."""
        self._native.match_planes(self._work, planes, moves)

    def rows(self, planes: Tensor, out: Tensor) -> None:
        """See `runtime.device.Kernels.rows`."""
        there = self._again(out.shape, out.dtype, self._device.name)
        here = self._again(out.shape, out.dtype, "pinned")
        self._native.planar_to_image(self._work, planes, there, self._largest, len(self._plan.steps) + 1)
        self._work.copy(self._seen, self._largest)
        self._work.copy(here, there)
        self._work.synchronize()
        self._check()
        out.copy_from(here)

    def draw(self, out: Tensor) -> None:
        """See `runtime.device.Kernels.draw`."""
        if not self._drawn:
            here = self._buffer(out.shape, out.dtype, "pinned")
            fill_items(self._noise, here)
            self._work.copy(out, here)

    def start(self, state: SamplerState, mean: Tensor, std: Tensor) -> None:
        """See `runtime.device.Kernels.start`."""
        self._native.start(
            self._work,
            state.latent,
            state.x0_hat,
            mean,
            std,
            None if self._drawn else (state.noise_posterior, state.noise),
            self._rows,
            self._seed,
            state.timestep,
            self._largest,
        )

    def set_timestep(self, state: SamplerState, step: int) -> None:
        """See `runtime.device.Kernels.set_timestep`: the kernel before has written it."""

    def step(self, state: SamplerState, predictions: Sequence[Tensor], step: int) -> None:
        """See `runtime.device.Kernels.step`."""
        self._native.solver_step(
            self._work,
            state.latent,
            state.output,
            state.x0_hat,
            predictions[: len(self._plan.steps[step].c_p)],
            None if self._drawn else state.noise,
            self._rows,
            step + 1,
            self._seed,
            state.timestep,
            self._largest,
        )

    def color_fix(self, name: str, content: Tensor, style: Tensor) -> Tensor:
        """See `runtime.device.Kernels.color_fix`."""
        if name == "none":
            return content
        out = self._again(content.shape, content.dtype, self._device.name)
        COLOR_FIXES[name](self, content, style, out)
        return out

    def wavelet_fix(self, content: Tensor, style: Tensor, out: Tensor) -> None:
        """`kernels.wavelet_fix`, to another tensor."""
        self._native.wavelet_fix(self._work, content, style, out)

    def adain_fix(self, content: Tensor, style: Tensor, out: Tensor) -> None:
        """`kernels.adain_fix`, to another tensor."""
        work = self._again((self._native.adain_work(content.shape),), "float64", self._device.name)
        self._native.adain_fix(self._work, content, style, out, work)

    def read(self, tensor: Tensor) -> Tensor:
        """See `runtime.device.Kernels.read`."""
        here = Tensor(tensor.shape, tensor.dtype)
        self._work.copy(here, tensor)
        self._work.synchronize()
        return here

    def download(self, planes: Tensor, pixels: Sequence[Tensor]) -> None:
        """See `runtime.device.Kernels.download`; `pixels` holds them after `finish`."""
        copies = []
        for item, wanted in enumerate(pixels):
            there = self._buffer(wanted.shape, wanted.dtype, self._device.name)
            here = self._buffer(wanted.shape, wanted.dtype, "pinned")
            self._native.planar_to_image(self._work, planes, there, self._largest, len(self._plan.steps) + 1, item)
            copies.append((here, there))
            self._pixels.append((wanted, here))
        self._work.copy(self._seen, self._largest)
        if self._down is not self._work:
            self._down.wait(self._work.record())
        for here, there in copies:
            self._down.copy(here, there)
        if self._recorded_in is None:
            self._done = self._device.last = self._down.record()

    def finish(self, check: Callable[[], None]) -> None:
        """See `runtime.device.Kernels.finish`."""
        if self._done is None:
            return
        done, self._done = self._done, None
        try:
            self._device.wait_for(done, check)
        except BaseException:
            self.abandon(wait=False)
            raise
        try:
            self.collect()
        finally:
            self._device.give_back(self.buffers)

    def collect(self) -> None:
        """What came back is checked and taken over; for when it is there.

        Raises:
            GuardError: see `finish`.
        """
        self._check()
        for wanted, here in self._pixels:
            wanted.copy_from(here)

    def _check(self) -> None:
        largest = memoryview(self._seen).tolist()
        check_start(largest[0])
        for number, row in enumerate(self._plan.steps, 1):
            check_step(largest[number], number, row)
        check_picture(largest[-1])

    @property
    def needs(self) -> Needs:
        """See `runtime.device.Kernels.needs`."""
        return [(kept.shape, kept.dtype, "pinned" if kept.pinned else kept.device) for kept in self.buffers]

    def rewrite(self, pixels: Sequence[object], plan: Plan, noise: NoiseSource) -> None:
        """Other pictures, coefficients and seed in the pinned memory of a recording, for its next launch."""
        self._plan = plan
        memoryview(self._seed_here).cast("B")[:] = _seed(noise)
        memoryview(self._rows_here).cast("B")[:] = _table(plan)
        for here, given in zip(self._given, pixels, strict=True):
            here.copy_from(given)

    def expect(self, pixels: Sequence[Tensor]) -> None:
        """Other host tensors for the results of a recording's next launch."""
        self._pixels = [(wanted, here) for wanted, (_, here) in zip(pixels, self._pixels, strict=True)]

    def abandon(self, *, wait: bool = True) -> None:
        """See `runtime.device.Kernels.abandon`."""
        if self._recorded_in is not None:
            return  # a capture has put nothing there
        self._done = None
        with contextlib.suppress(kernels.CudaError):  # what failed is raised already
            if not wait:
                self._device.leave(self.buffers)
                return
            self._device.synchronize()
        self._device.give_back(self.buffers)

    def __del__(self) -> None:
        """A batch that nobody asked for: its buffers are in use until it is done. Whoever holds the lock may be waiting
        for the very thread that runs this, so it is not waited for.
        """
        if getattr(self, "_done", None) is not None and DEVICE_SETUP.acquire(blocking=False):
            try:
                self.abandon()
            finally:
                DEVICE_SETUP.release()

    def _buffer(self, shape: tuple[int, ...], dtype: str, place: str) -> Tensor:
        """A buffer that belongs to this batch until it is done."""
        given = next(self._recorded_in) if self._recorded_in is not None else self._device.take(shape, dtype, place)
        self.buffers.append(given)
        return given

    def _again(self, shape: tuple[int, ...], dtype: str, place: str) -> Tensor:
        """The same buffer at every call: what the last one put there has been read by then, in the stream's order."""
        key = (shape, dtype, place)
        if key not in self._kept:
            self._kept[key] = self._buffer(*key)
        return self._kept[key]

    def _sent(self, values: bytes, shape: tuple[int, ...], dtype: str) -> tuple[Tensor, Tensor]:
        """These values in pinned and in device memory."""
        here = self._buffer(shape, dtype, "pinned")
        memoryview(here).cast("B")[:] = values
        there = self._buffer(shape, dtype, self._device.name)
        self._work.copy(there, here)
        return here, there


COLOR_FIXES = {"wavelet": CudaKernels.wavelet_fix, "adain": CudaKernels.adain_fix}
"""As of `runtime.color_fix`."""


def _seed(noise: NoiseSource) -> bytes:
    return struct.pack("=Q", noise.seed if isinstance(noise, Philox) else 0)


def _table(plan: Plan) -> bytes:
    """Row 0 is the start's, of which the kernel reads c_hat and c_z."""
    c_hat, c_z = plan.start
    rows = [[0.0, 0.0, 0.0, 0.0, 0.0, c_hat, 0.0, 0.0, 0.0, c_z, 0.0, 0.0]]
    values = [value for row in (*rows, *map(_row, plan.steps)) for value in row]
    return struct.pack(f"={len(values)}f", *values)


def _row(step: Step) -> list[float]:
    c_p = (*step.c_p, 0.0, 0.0)[:3]
    return [step.timestep, step.p_x, step.p_out, step.p_hat, step.c_x, step.c_hat, *c_p, step.c_z, 0.0, 0.0]
