"""What a device is: where pictures are worked on, its memory, and our kernels on it.

The runtime walks every picture by the same lines (`runtime.pipeline`, `runtime.sampler`); what differs between devices
is behind `Kernels`. A new one is a file with classes of these forms, and one line in `runtime.devices.open_device`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runtime.clock import Clock
from runtime.kernels import Tensor
from runtime.noise import NoiseSource
from solvers import Plan

if TYPE_CHECKING:
    from runtime.engine_pool import PooledCall
    from runtime.recording import Recordings


Needs = Sequence[tuple[tuple[int, ...], str, str]]
"""Shape, dtype and place of buffers."""


Windows = tuple[Tensor, Tensor]
"""What the rows and the columns of a tile count, float32 [h] and [w], on the device."""


@dataclass(frozen=True, kw_only=True)
class SamplerState:
    """Every tensor of the loop, allocated before it: float32, latents [B, 4, H, W]."""

    latent: Tensor
    x0_hat: Tensor
    output: Tensor
    """What the network predicts."""
    timestep: Tensor
    """[1], read by the network."""
    predictions: tuple[Tensor, Tensor, Tensor]
    """Ring of data predictions."""
    noise: Tensor
    noise_posterior: Tensor


class Kernels(Protocol):
    """Our work on the pictures of one batch, called in the order of the data. On a device it is only put on the stream;
    where it is done at once, values out of range are an error at once.
    """

    def upload(self, pixels: Sequence[object], out: Tensor) -> None:
        """Buffers, uint8 or uint16 [h, w, 1, 3 or 4] each, to the items of `out` [B, 3, H, W] in [0, 1], padded."""

    def draw(self, out: Tensor) -> None:
        """The next draw of the noise, [B, 4, H, W], the same for each picture; may wait until a kernel needs it."""

    def start(self, state: SamplerState, mean: Tensor, std: Tensor) -> None:
        """Samples the posterior and makes the first latent (`kernels.start`)."""

    def set_timestep(self, state: SamplerState, step: int) -> None:
        """Writes the timestep of that step (from 0) for the network."""

    def step(self, state: SamplerState, predictions: Sequence[Tensor], step: int) -> None:
        """One row of the plan (`kernels.solver_step`), predictions newest first."""

    def color_fix(self, name: str, content: Tensor, style: Tensor) -> Tensor:
        """The color fix of that name; content itself, or the tensor that now holds it."""

    def read(self, tensor: Tensor) -> Tensor:
        """The tensor's values now, on the host."""

    def download(self, planes: Tensor, pixels: Sequence[Tensor]) -> None:
        """The items of planes [B, 3, H, W] to host tensors, uint8 or uint16 [h, w, 1 or 3] each. The last call."""

    def hold(self, pixels: object) -> object:
        """A buffer, uint8 or uint16 [h, w, 1, 3 or 4], where `crop` reads it."""

    def crop(self, held: object, y: int, x: int, out: Tensor, item: int) -> None:
        """Pixels from (y, x) on to that item of `out` [B, 3, H, W] in [0, 1], continued by reflection."""

    def keep_pace(self, check: Callable[[], None]) -> None:
        """Waits until little of what was put on the device is left, and calls `check` meanwhile: a picture in tiles is
        then stopped, and tells its progress, as it goes.
        """

    def zero(self, tensor: Tensor) -> None:
        """Sets every element to 0."""

    def take(self, canvas: Tensor, tile: Tensor, y: int, x: int, item: int = 0) -> None:
        """A tile of a canvas [1, C, H, W] (`kernels.tile_take`)."""

    def blend(self, tile: Tensor, canvas: Tensor, windows: Windows, y: int, x: int, item: int = 0) -> None:
        """A weighted tile onto a canvas (`kernels.tile_blend`)."""

    def match(self, planes: Tensor, moves: Tensor) -> None:
        """Planes [B, C, H, W] from one mean and standard deviation to another (`kernels.match_planes`)."""

    def rows(self, planes: Tensor, out: Tensor) -> None:
        """The first rows of planes [1, 3, H, W] to a host tensor, uint8 or uint16 [h, w, 1 or 3], now.

        Raises:
            GuardError: they, or a stage before them, have NaN, infinity or values out of range.
        """

    @property
    def needs(self) -> Needs:
        """Every buffer that the batch has taken so far, in order."""

    def finish(self, check: Callable[[], None]) -> None:
        """Waits until all of it is done, and calls `check` meanwhile; what that raises ends it as `abandon` does.

        Raises:
            GuardError: a stage gave NaN, infinity or values out of range.
        """

    def abandon(self, *, wait: bool = True) -> None:
        """Instead of `download` and `finish`, where something failed or was stopped, or `rows` gave all there is; waits
        for what is under way, or leaves it.
        """


class Device(Protocol):
    """Memory and kernels of one place."""

    name: str
    """cpu, cuda:N"""
    sizes_kept: int
    """Of how many sizes of pictures the buffers are kept."""

    @property
    def stream(self) -> int | None:
        """The address of the CUDA stream that everything is put on; None where work is done at once."""

    def tensor(self, shape: tuple[int, ...], dtype: str = "float32") -> Tensor:
        """Zeroed memory where the engines run."""

    def vector(self, values: Sequence[float], shape: tuple[int, ...] | None = None) -> Tensor:
        """float32 of these values, each rounded once; [n], or of that shape."""

    def kernels(self, plan: Plan, noise: NoiseSource) -> Kernels:
        """For the pictures of one batch, which share plan and noise."""

    def recordings(self, calls: Sequence[PooledCall]) -> Recordings | None:
        """Where batches that make these engine calls are recorded, to be put there at once; None where they are not."""

    def time(self, clock: Clock) -> None:
        """Makes the clock's instants those of this device, from now on."""

    def synchronize(self) -> None:
        """Waits until everything that was put on the device is done."""
