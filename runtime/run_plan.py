"""What a picture will take, before it is made. In: its size, settings, an opened bundle. Out: a `RunPlan`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, prod

from engines.bundle import Manifest
from engines.graphs import UPSCALE
from engines.memory import format_size
from engines.profiles import Size
from runtime.canvases import canvas_bytes
from runtime.clock import Span
from runtime.open_way import OpenWay
from runtime.tiles import Grid, Tiling

_REST = "rest"


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """How a picture of one size will be made."""

    width: int
    """Of the input."""
    height: int
    tiles: int
    """1: the picture goes through the engines whole."""
    tile: tuple[int, int]
    """(h, w) of an engine call, latent pixels."""
    overlap: tuple[int, int]
    """Of tiles one above the other, and side by side; 0 where there is one."""
    tile_batch: int
    """Tiles of an engine call."""
    steps: int
    calls: Mapping[str, int]
    """Engine calls by graph."""
    canvas_bytes: int
    """What grows with the picture beside its pixels and result: eight latent canvases and a row of tiles in float."""
    memory: int
    """Bytes: the most that the process is expected to hold, input and result included. By what it held when
    this Upscaler's last picture was made, where its calls had this size; else by the engines' estimates, which are
    measured on the full-size model on a CPU: others take less."""
    seconds: float | None
    """Expected, by the calls of this Upscaler's last picture; None before any."""

    @property
    def engine_calls(self) -> int:
        """Of all graphs."""
        return sum(self.calls.values())

    def __str__(self) -> str:
        h, w = self.tile
        cut = "whole" if self.tiles == 1 else f"{self.tiles} tiles of {w}x{h}, {self.tile_batch} at a time"
        time = "not known before a picture was made" if self.seconds is None else f"{self.seconds:.1f} s"
        return (
            f"{self.width}x{self.height}: {cut}; {self.steps} steps, {self.engine_calls} engine calls; "
            f"memory about {format_size(self.memory)}, time {time}"
        )


class CallPace:
    """Seconds of engine calls, and the memory beside pictures and canvases, by the last picture."""

    def __init__(self) -> None:
        self._rates: Mapping[str, float] = {}
        """By graph and latent pixel of its calls; of what lies between them, by latent pixel of the picture."""
        self._held: dict[Size, int] = {}
        """Bytes by the size of calls."""

    def learn_memory(self, peak: int, width: int, height: int, size: Size, grid: Grid | None) -> None:
        """Takes over what the process held at the most, for one 8-bit RGB picture."""
        self._held[size] = max(0, peak - _grows(width, height, grid))

    def memory(self, width: int, height: int, size: Size, grid: Grid | None) -> int | None:
        """Bytes that the process will hold at the most; None before a picture in calls of that size."""
        held = self._held.get(size)
        return None if held is None else held + _grows(width, height, grid)

    def knows(self, size: Size) -> bool:
        """Whether a picture in calls of that size was learned."""
        return size in self._held

    def learn(
        self, spans: Iterable[Span], total: float, calls: Mapping[str, int], size: Size, grid: Grid | None
    ) -> None:
        """Takes over a picture's spans and seconds."""
        seconds: dict[str, float] = dict.fromkeys((*map(_span, calls), _REST), 0.0)
        for span in spans:
            if span.name in seconds:
                seconds[span.name] += span.seconds
        seconds[_REST] = max(0.0, total - sum(seconds.values()))
        amounts = _amounts(calls, size, grid)
        self._rates = {name: seconds[name] / amounts[name] for name in seconds}

    def expected(self, calls: Mapping[str, int], size: Size, grid: Grid | None) -> float | None:
        """Seconds of a picture; None before any was learned."""
        amounts = _amounts(calls, size, grid)
        if not self._rates.keys() >= amounts.keys():
            return None
        return sum(self._rates[name] * amount for name, amount in amounts.items())


def engine_calls(manifest: Manifest, grid: Grid | None, batch: int, steps: int, color_fix: str) -> dict[str, int]:
    """Engine calls of a picture by graph."""
    everywhere = rows = 1
    if grid is not None:
        columns = len(grid.x.corners)
        everywhere, rows = ceil(grid.count / batch), len(grid.y.corners) * ceil(columns / batch)
    networks = dict.fromkeys(
        (name for name in ("denoise", "controlnet", "unet") if name in manifest.graphs), everywhere
    )
    calls = {"preprocess": everywhere, "encode": everywhere}
    calls |= {"condition": everywhere} if "condition" in manifest.graphs else {}
    calls |= {name: steps * count for name, count in networks.items()} | {"decode": rows}
    if grid is not None and color_fix == "wavelet":
        calls["preprocess"] += rows
    if grid is not None and color_fix == "adain":
        calls["decode"] += everywhere
    return calls


def plan_run(
    way: OpenWay,
    width: int,
    height: int,
    *,
    steps: int,
    color_fix: str,
    tiling: Tiling,
    pace: CallPace,
) -> RunPlan:
    """The plan for an 8-bit RGB picture; arguments as of `Upscaler.__call__`.

    Raises:
        ImageTooLargeError, SettingsError, MemoryBudgetError: as making it would.
    """
    grid = way.grid(width, height, tiling)
    size = way.whole_size(width, height) if grid is None else way.tile_size(grid, tiling)
    calls = engine_calls(way.bundle.manifest, grid, size[0], steps, color_fix)
    return RunPlan(
        width=width,
        height=height,
        tiles=1 if grid is None else grid.count,
        tile=size[1:],
        overlap=(0, 0) if grid is None else (grid.y.overlap, grid.x.overlap),
        tile_batch=size[0],
        steps=steps,
        calls=calls,
        canvas_bytes=0 if grid is None else canvas_bytes(grid),
        memory=pace.memory(width, height, size, grid) or way.memory(size, grid) + _grows(width, height, None),
        seconds=pace.expected(calls, size, grid),
    )


def _grows(width: int, height: int, grid: Grid | None) -> int:
    """Bytes of input, result and canvases."""
    return 3 * width * height * (1 + UPSCALE**2) + (0 if grid is None else canvas_bytes(grid))


def _span(graph: str) -> str:
    return "denoise" if graph in ("controlnet", "unet") else graph


def _amounts(calls: Mapping[str, int], size: Size, grid: Grid | None) -> dict[str, int]:
    """Latent pixels by span: what calls work on, and the picture's own."""
    amounts = {_span(graph): count * prod(size) for graph, count in calls.items()}
    return amounts | {_REST: prod(size if grid is None else grid.canvas)}
