"""The host as a `Device`: everything is done when its call returns. In: tensors in host memory. Out: the same."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from runtime.clock import Clock
from runtime.color_fix import COLOR_FIXES
from runtime.device import Needs, SamplerState, Windows
from runtime.engine_pool import PooledCall
from runtime.guard import check_picture, check_start, check_step
from runtime.kernels import (
    Tensor,
    crop_to_planar,
    image_to_planar,
    match_planes,
    planar_to_image,
    solver_step,
    start,
    tensor_from,
    tile_blend,
    tile_take,
)
from runtime.noise import NoiseSource, fill_items
from solvers import Plan


class HostKernels:
    """See `runtime.device.Kernels`."""

    def __init__(self, plan: Plan, noise: NoiseSource) -> None:
        self._plan, self._noise = plan, noise

    def upload(self, pixels: Sequence[object], out: Tensor) -> None:
        """See `runtime.device.Kernels.upload`."""
        for item, given in enumerate(pixels):
            image_to_planar(given, out, item)

    def draw(self, out: Tensor) -> None:
        """See `runtime.device.Kernels.draw`."""
        fill_items(self._noise, out)

    def start(self, state: SamplerState, mean: Tensor, std: Tensor) -> None:
        """See `runtime.device.Kernels.start`."""
        c_hat, c_z = self._plan.start
        check_start(start(state.latent, state.x0_hat, mean, std, state.noise_posterior, state.noise, c_hat, c_z))

    def set_timestep(self, state: SamplerState, step: int) -> None:
        """See `runtime.device.Kernels.set_timestep`."""
        state.timestep.fill(self._plan.steps[step].timestep)

    def step(self, state: SamplerState, predictions: Sequence[Tensor], step: int) -> None:
        """See `runtime.device.Kernels.step`."""
        row = self._plan.steps[step]
        largest = solver_step(
            state.latent,
            state.output,
            state.x0_hat,
            predictions,
            state.noise,
            row.p_x,
            row.p_out,
            row.p_hat,
            row.c_x,
            row.c_hat,
            row.c_p,
            row.c_z,
        )
        check_step(largest, step + 1, row)

    def color_fix(self, name: str, content: Tensor, style: Tensor) -> Tensor:
        """See `runtime.device.Kernels.color_fix`; in place."""
        if (fix := COLOR_FIXES[name]) is not None:
            fix(content, style)
        return content

    def read(self, tensor: Tensor) -> Tensor:
        """See `runtime.device.Kernels.read`."""
        return tensor

    def download(self, planes: Tensor, pixels: Sequence[Tensor]) -> None:
        """See `runtime.device.Kernels.download`."""
        for item, wanted in enumerate(pixels):
            check_picture(planar_to_image(planes, wanted, item))

    def hold(self, pixels: object) -> object:
        """See `runtime.device.Kernels.hold`."""
        return pixels

    def crop(self, held: object, y: int, x: int, out: Tensor, item: int) -> None:
        """See `runtime.device.Kernels.crop`."""
        crop_to_planar(held, y, x, out, item)

    def keep_pace(self, _check: Callable[[], None]) -> None:
        """See `runtime.device.Kernels.keep_pace`: nothing is left."""

    def zero(self, tensor: Tensor) -> None:
        """See `runtime.device.Kernels.zero`."""
        tensor.fill(0.0)

    def take(self, canvas: Tensor, tile: Tensor, y: int, x: int, item: int = 0) -> None:
        """See `runtime.device.Kernels.take`."""
        tile_take(canvas, tile, y, x, item)

    def blend(self, tile: Tensor, canvas: Tensor, windows: Windows, y: int, x: int, item: int = 0) -> None:
        """See `runtime.device.Kernels.blend`."""
        tile_blend(tile, canvas, *windows, y, x, item)

    def match(self, planes: Tensor, moves: Tensor) -> None:
        """See `runtime.device.Kernels.match`."""
        match_planes(planes, moves)

    def rows(self, planes: Tensor, out: Tensor) -> None:
        """See `runtime.device.Kernels.rows`."""
        check_picture(planar_to_image(planes, out))

    @property
    def needs(self) -> Needs:
        """See `runtime.device.Kernels.needs`."""
        return ()

    def finish(self, _check: Callable[[], None]) -> None:
        """See `runtime.device.Kernels.finish`: all is done and checked."""

    def abandon(self, *, wait: bool = True) -> None:
        """See `runtime.device.Kernels.abandon`."""


class Host:
    """See `runtime.device.Device`."""

    name = "cpu"
    stream = None
    sizes_kept = 1

    def tensor(self, shape: tuple[int, ...], dtype: str = "float32") -> Tensor:
        """See `runtime.device.Device.tensor`."""
        return Tensor(shape, dtype)

    def vector(self, values: Sequence[float], shape: tuple[int, ...] | None = None) -> Tensor:
        """See `runtime.device.Device.vector`."""
        return tensor_from(memoryview(array("f", values)).cast("B").cast("f", shape or (len(values),)))

    def kernels(self, plan: Plan, noise: NoiseSource) -> HostKernels:
        """See `runtime.device.Device.kernels`."""
        return HostKernels(plan, noise)

    def recordings(self, _calls: Sequence[PooledCall]) -> None:
        """See `runtime.device.Device.recordings`."""

    def time(self, clock: Clock) -> None:
        """See `runtime.device.Device.time`: the clock's own instants are right."""

    def synchronize(self) -> None:
        """See `runtime.device.Device.synchronize`."""
