"""The buffers of a picture in tiles: what is as large as it, and the windows of its tiles. In: tiles. Out: tensors."""

from __future__ import annotations

from dataclasses import dataclass

from engines.graphs import LATENT_CHANNELS, VAE_FACTOR
from runtime.device import Device, Kernels, SamplerState
from runtime.kernels import Tensor
from runtime.tiles import Axis, Grid
from runtime.workspace import Workspace

_CANVASES = 8
_FLOAT = 4


def canvas_bytes(grid: Grid) -> int:
    """Bytes that a picture of these tiles takes beside the workspace, its pixels and its result: of canvases, and of a
    row of tiles of the result, in float with what it shares with the next, and in 8 bits.
    """
    H, W = grid.canvas
    rows, carried = VAE_FACTOR * grid.y.tile, VAE_FACTOR * max(grid.y.shared, 1)
    return _FLOAT * _CANVASES * LATENT_CHANNELS * H * W + 3 * VAE_FACTOR * W * (_FLOAT * (rows + carried) + rows)


@dataclass(frozen=True, kw_only=True)
class Canvases:
    """Of the whole latent. What is read before the first step lies where the steps' predictions go later."""

    mean: Tensor
    std: Tensor
    condition: Tensor
    state: SamplerState


def make_canvases(ws: Workspace, grid: Grid) -> Canvases:
    """Zeroed, on the device; the timestep is the workspace's, which the engines read."""
    tensors = [ws.device.tensor((1, LATENT_CHANNELS, *grid.canvas)) for _ in range(_CANVASES)]
    latent, x0_hat, output, noise, condition, *predictions = tensors
    first, std, posterior = predictions
    state = SamplerState(
        latent=latent,
        x0_hat=x0_hat,
        output=output,
        timestep=ws.state.timestep,
        predictions=(first, std, posterior),
        noise=noise,
        noise_posterior=posterior,
    )
    mean = condition if ws.condition is ws.latent_mean else first
    return Canvases(mean=mean, std=std, condition=condition, state=state)


class Carry:
    """What the next row of tiles goes on with."""

    def __init__(self, device: Device, grid: Grid) -> None:
        rows, width = VAE_FACTOR * max(grid.y.shared, 1), VAE_FACTOR * grid.x.size
        self._carried = device.tensor((1, 3, rows, width))
        self._ones = device.vector([1.0] * rows), device.vector([1.0] * width)

    def shift(self, strip: Tensor, rows: int, kernels: Kernels) -> None:
        """Moves the strip up by as many rows as are done."""
        kernels.take(strip, self._carried, rows, 0)
        kernels.zero(strip)
        kernels.blend(self._carried, strip, self._ones, 0, 0)


def make_windows(device: Device, grid: Grid, factor: int) -> tuple[list[Tensor], list[Tensor]]:
    """Of the rows and of the columns of tiles, on the device; most are the same."""
    made: dict[tuple[float, ...], Tensor] = {}

    def on_device(window: tuple[float, ...]) -> Tensor:
        if window not in made:
            made[window] = device.vector(window)
        return made[window]

    def along(axis: Axis) -> list[Tensor]:
        return [on_device(axis.window(number, factor)) for number in range(len(axis.corners))]

    return along(grid.y), along(grid.x)
