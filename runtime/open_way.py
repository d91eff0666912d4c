"""A bundle opened on an engine. In: sizes of pictures. Out: buffers and engine calls for them, and what they take."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from functools import partial
from math import prod

from engines.base import DEVICE_SETUP, Backend, EngineSettings
from engines.bundle import Bundle
from engines.errors import DossrError, MemoryBudgetError, SettingsError
from engines.graphs import UPSCALE, VAE_FACTOR
from engines.memory import format_size
from engines.profiles import Size, choose_profile
from runtime.canvases import canvas_bytes
from runtime.device import Device
from runtime.devices import open_device
from runtime.engine_pool import EnginePool
from runtime.kernels import Tensor
from runtime.tiles import AUTO, Grid, Tiling, choose_grid
from runtime.workspace import Workspace, buffer_bytes, largest_batch, latent_size_needed, make_workspace, working_size

SMALLER = (64, 48, 32, 24, 16)
"""Tiles that "auto" tries under a memory budget, in this order."""
TILE_BATCH = 4
"""Tiles together on a GPU, where nothing else is asked."""
_log = logging.getLogger("dossr")


class OpenWay:
    """A bundle on an engine, and the buffers of the last size of picture. Not for two threads at once.

    Arguments and errors as of `EnginePool`; `record` as of `Ways`.
    """

    def __init__(
        self, bundle: Bundle, backend: Backend, settings: EngineSettings, budget: int | None, *, record: bool
    ) -> None:
        self.bundle = bundle
        self.budget = budget
        self._record = record and budget is None  # a recording holds on to engines that a budget may close
        self.device = open_device(backend.place(settings))
        settings = dataclasses.replace(settings, stream=self.device.stream, memory=partial(_device_memory, self.device))
        self.pool = EnginePool(backend, bundle, settings, budget)
        self.profiles = backend.profiles(bundle, settings)
        """The ranges of shapes that its engines take."""
        self._workspaces: dict[Size, Workspace] = {}
        """What was used last comes last."""
        self._padding_told = False

    @property
    def description(self) -> str:
        """The engine, where it runs and the bundle's name, for people."""
        return f"{self.pool.description}, bundle {self.bundle.folder.resolve().name}"

    def workspace(self, width: int, height: int, batch: int = 1) -> Workspace:
        """Buffers and calls for so many low-resolution pictures of that size, or for more than these.

        Raises:
            ImageTooLargeError: it is larger than the engines take.
            MemoryBudgetError: at this size a graph takes more than the budget.
        """
        size = working_size(self.profiles, width, height, batch)
        _, H, W = size
        if latent_size_needed(width, height) != (H, W) and not self._padding_told:
            self._padding_told = True
            _log.warning(
                "the engines have fixed shapes, so smaller pictures are padded, here to %dx%d; they differ slightly "
                "from those of engines without",
                W * VAE_FACTOR // UPSCALE,
                H * VAE_FACTOR // UPSCALE,
            )
        self.pool.reserved = 0
        return self._of_size(size)

    def _of_size(self, size: Size) -> Workspace:
        found = self._workspaces.pop(size, None)
        if found is None:
            while len(self._workspaces) >= self.device.sizes_kept:  # free old buffers before the new ones are made
                self._free(next(iter(self._workspaces)))
            found = make_workspace(self.bundle.manifest, self.pool, self.device, size, record=self._record)
        self._workspaces[size] = found
        return found

    def grid(self, width: int, height: int, tiling: Tiling) -> Grid | None:
        """The tiles of a low-resolution picture of that size; None: it goes through the engines whole. Under a budget
        "auto" takes the largest tiles that fit.

        Errors as of `runtime.tiles.choose_grid`.
        """
        grid = choose_grid(tiling, self.profiles, width, height)
        if tiling.tile != AUTO or self.budget is None or self._fits(width, height, grid):
            return grid
        for side in SMALLER:
            with contextlib.suppress(SettingsError):  # of engines that take no such tiles, or of the overlap
                smaller = choose_grid(dataclasses.replace(tiling, tile=side), self.profiles, width, height)
                if smaller is not None and self._fits(width, height, smaller):
                    return smaller
        return grid

    def _fits(self, width: int, height: int, grid: Grid | None) -> bool:
        """Whether the picture, whole or one tile at a time, is within the budget."""
        size = working_size(self.profiles, width, height) if grid is None else self._padded((1, *grid.tile))
        return self.budget is None or self.memory(size, grid) <= self.budget

    def largest_batch(self, width: int, height: int, tiling: Tiling) -> int:
        """How many pictures of that size are restored together at most; 1 where they are cut, or none is taken."""
        try:
            return largest_batch(self.profiles, width, height) if self.grid(width, height, tiling) is None else 1
        except DossrError:
            return 1

    def whole_size(self, width: int, height: int) -> Size:
        """(1, H, W) of a picture that goes through the engines whole.

        Raises:
            ImageTooLargeError: it is larger than the engines take.
            MemoryBudgetError: it takes more than the budget.
        """
        size = working_size(self.profiles, width, height)
        if self.budget is not None and (need := self.memory(size, None)) > self.budget:
            raise MemoryBudgetError(
                f"max_memory is {format_size(self.budget)}, a whole picture of {width}x{height} needs about "
                f"{format_size(need)} by the full-size model's measure; give more, or let it be cut (a smaller tile)"
            )
        return size

    def tile_size(self, grid: Grid, tiling: Tiling) -> Size:
        """(B, h, w) of the batches of tiles: of as many as `tiling` asks for, else as the device likes and the budget
        allows.

        Raises:
            SettingsError: the engines do not take so many.
            MemoryBudgetError: not even one fits.
        """
        most = max(profile.max[0] for profile in self.profiles if profile.covers((1, *grid.tile)))
        if tiling.batch is not None and tiling.batch > most:
            raise SettingsError(
                f"tile_batch must be a whole number in 1..{most}, which the engines take, not {tiling.batch}"
            )
        batch = min(tiling.batch or (1 if self.device.stream is None else TILE_BATCH), most, grid.count)
        size = self._padded((batch, *grid.tile))
        while self.budget is not None and self.memory(size, grid) > self.budget:
            if batch == 1 or tiling.batch is not None:
                (h, w), (H, W), need = grid.tile, grid.canvas, format_size(self.memory(size, grid))
                raise MemoryBudgetError(
                    f"max_memory is {format_size(self.budget)}, {W}x{H} latent pixels in tiles of {w}x{h}, {batch} "
                    f"at a time, need about {need} by the full-size model's measure; give more, or take a smaller "
                    "tile or tile_batch"
                )
            batch -= 1
            size = self._padded((batch, *grid.tile))
        return size

    def memory(self, size: Size, grid: Grid | None) -> int:
        """The most that the process is expected to hold beside pictures and results, by the engines' estimates."""
        canvases = 0 if grid is None else canvas_bytes(grid)
        return self.pool.peak(buffer_bytes(self.bundle.manifest, size) + canvases, prod(size))

    def tile_workspace(self, size: Size, grid: Grid) -> Workspace:
        """Buffers and calls for batches of tiles.

        Raises:
            MemoryBudgetError: at this size a graph takes more than the budget.
        """
        self.pool.reserved = canvas_bytes(grid)
        return self._of_size(size)

    def _padded(self, size: Size) -> Size:
        chosen = choose_profile(self.profiles, size)
        assert chosen is not None  # it is no larger than what was chosen before
        return self.profiles[chosen].padded(size)

    def _free(self, size: Size) -> None:
        self.device.synchronize()
        with DEVICE_SETUP:
            workspace = self._workspaces.pop(size)
            if workspace.recordings is not None:
                workspace.recordings.clear()
            self.pool.unbind(workspace.calls.values())

    def rest(self) -> None:
        """Frees engines and buffers, once they have done their work; those that are needed again are opened again."""
        for size in list(self._workspaces):
            self._free(size)
        self.pool.close()


def _device_memory(device: Device, nbytes: int) -> Tensor:
    return device.tensor((nbytes,), "uint8")
