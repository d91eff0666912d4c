"""The ways to make one picture, each safer than the one before. In: a bundle, an engine, and what may take its place.
Out: the picture of the first way whose values are right (`runtime.guard`).

A way beyond the asked one is opened when its turn comes and stays open, unless there is a memory budget: then the one
before it is closed first, and it is closed after its picture. Every picture begins with the asked way again.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Generic, TypeVar

from engines.backends import backend_named
from engines.base import DEVICE_SETUP, Backend, EngineSettings
from engines.bundle import Bundle, Manifest, open_bundle
from engines.errors import DossrError, GuardError, MemoryBudgetError, SettingsError, StoppedError
from engines.graphs import UPSCALE, VAE_FACTOR
from engines.memory import format_size
from engines.profiles import Size, choose_profile
from runtime.canvases import canvas_bytes
from runtime.device import Device
from runtime.devices import open_device
from runtime.engine_pool import EnginePool
from runtime.kernels import Tensor
from runtime.tiles import Grid, Tiling, choose_grid
from runtime.workspace import Workspace, buffer_bytes, largest_batch, latent_size_needed, make_workspace, working_size

AUTO, NONE = "auto", "none"
"""What `fallback` may be beside the path of a bundle."""
TILE_BATCH = 4
"""Tiles together on a GPU, where nothing else is asked."""
_log = logging.getLogger("dossr")
_Picture = TypeVar("_Picture")


@dataclass(frozen=True, kw_only=True)
class Way:
    """Which bundle on which engine; None: as asked."""

    engine: str | None = None
    device: str | None = None
    named: bool = False
    """The bundle that `fallback` names, in the place of the asked one."""


WAYS = (
    Way(),
    Way(named=True),
    Way(engine="onnxruntime", device="cpu"),  # the form for the CPU computes fp16 weights in float32
    Way(engine="onnxruntime", device="cpu", named=True),
)
"""In this order; one that comes to the same as an earlier one is passed over."""


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
        """The tiles of a low-resolution picture of that size; None: it goes through the engines whole.

        Errors as of `runtime.tiles.choose_grid`.
        """
        return choose_grid(tiling, self.profiles, width, height)

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
                f"{format_size(need)}; give more, or let it be cut into tiles"
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
                    f"at a time, need about {need}; give more, or take smaller tiles or a smaller tile_batch"
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


@dataclass(frozen=True, kw_only=True)
class Made(Generic[_Picture]):
    """A picture, and how it came about."""

    picture: _Picture
    engine: str
    """`OpenWay.description` of the way that made it."""
    guard_hits: tuple[str, ...]
    """What was wrong on the ways before, and where."""

    @property
    def notices(self) -> tuple[str, ...]:
        """The sentence for a picture that was made again."""
        return (f"{'; '.join(self.guard_hits)}; made again on {self.engine}",) if self.guard_hits else ()


class Ways:
    """The ways of one Upscaler. Not for two threads at once.

    Args:
        bundle: the asked one.
        backend: of the asked engine.
        settings: of the asked engine. Ways with a device of their own take over its threads alone.
        budget: bytes that this process may hold, or None.
        record: whether pictures may be recorded as CUDA graphs (`runtime.recording`).
        fallback: "auto": the ways that need no other bundle; "none": the asked one alone; or the path of a bundle of
            the same checkpoint, for the ways that take one.

    Raises:
        SettingsError: `fallback` is none of these, or its bundle is of another kind.
        BundleError: there is no bundle at the path.
        EngineError, MemoryBudgetError: of the asked way.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        settings: EngineSettings,
        budget: int | None,
        fallback: str | Path,
        *,
        record: bool = True,
    ) -> None:
        self._record = record
        self._bundle, self._backend, self._settings, self._budget = bundle, backend, settings, budget
        self._named = _named_bundle(fallback, bundle.manifest)
        self._allowed = fallback != NONE
        self._open: dict[tuple[Path, str], OpenWay] = {}
        self._pictures = 0
        self.guard_hits: Counter[str] = Counter()
        """By engine, how many pictures had wrong values there."""
        self.asked = self._opened(WAYS[0])

    def first_right(self, attempt: Callable[[OpenWay], _Picture], before_again: Callable[[], None]) -> Made[_Picture]:
        """What `attempt` gives on the first way where it raises no GuardError.

        Args:
            attempt: makes the picture from its beginning.
            before_again: called before it is made again.

        Raises:
            GuardError: no other way is allowed, or none could take over; of the asked way's kind.
            StoppedError: the caller stopped `attempt`.
            DossrError: what else `attempt` raises on the asked way.
        """
        self._pictures += 1
        errors: list[GuardError] = []
        hits: list[str] = []
        so_far = ""
        for way in self._each():
            if hits:
                _log.warning("%s (%s); the picture is made again on %s", hits[-1], so_far, way.description)
                before_again()
            try:
                picture = attempt(way)
                return Made(picture=picture, engine=way.description, guard_hits=tuple(hits))
            except GuardError as error:
                self.guard_hits[way.description] += 1
                so_far = f"{self.guard_hits[way.description]} of {self._pictures} pictures so far"
                errors.append(error)
                hits.append(f"{error.finding}, on {way.description}")
            except DossrError as error:
                if not hits or isinstance(error, StoppedError):
                    raise
                _log.warning("%s cannot take over: %s", way.description, error)
            finally:
                if hits and self._budget is not None:
                    way.rest()
        if len(hits) == 1:
            raise errors[0]
        raise type(errors[0])("; ".join(hits), errors[0].remedy) from errors[-1]

    def close(self) -> None:
        """Frees every engine and buffer."""
        for way in self._open.values():
            way.rest()

    def _each(self) -> Iterator[OpenWay]:
        yield self.asked
        passed = [self.asked]
        for way in WAYS[1:] if self._allowed else ():
            if way.named and self._named is None:
                continue
            try:
                opened = self._opened(way)
            except DossrError as error:
                _log.warning("a safer engine cannot take over: %s", error)
                continue
            if opened not in passed:
                passed.append(opened)
                yield opened

    def _opened(self, way: Way) -> OpenWay:
        """The way's bundle on its engine, opened once."""
        backend = self._backend if way.engine is None else backend_named(way.engine)
        settings = self._settings
        if way.device is not None:
            settings = EngineSettings(device=way.device, threads=settings.threads)
        folder = self._named if way.named and self._named is not None else self._bundle.folder
        key = (folder.resolve(), backend.prepare(settings))
        if key not in self._open:
            bundle = open_bundle(folder) if way.named else self._bundle
            self._open[key] = OpenWay(bundle, backend, settings, self._budget, record=self._record)
        return self._open[key]


def _named_bundle(fallback: str | Path, asked: Manifest) -> Path | None:
    """The folder that `fallback` names, once it is certain that its bundle can take the asked one's place."""
    if fallback in (AUTO, NONE):
        return None
    if not isinstance(fallback, str | os.PathLike):
        raise SettingsError(f'fallback must be "{AUTO}", "{NONE}" or the path of a bundle, not {fallback!r}')
    other = open_bundle(fallback, check_hashes=False).manifest  # hashes wait until it is needed
    if (other.schedule, other.prediction, other.scale) != (asked.schedule, asked.prediction, asked.scale):
        raise SettingsError(
            f"the bundle {fallback} has another noise schedule, prediction type or scale than the asked one; name a "
            "--fallback made from the same checkpoint"
        )
    return Path(fallback)
