"""Where tiles lie, and what each counts. In: a picture's size, the shapes that engines take. Out: corners and windows.

Pure numbers, in pixels of the latent. Tiles have one shape: the last one of a row or column is shifted inward. Windows
are products of one of each axis and add up to one over the canvas, so that blending the networks' outputs blends what
is linear in them. A tile counts nothing within `margin` of its inner sides, where convolutions have seen its edge, and
fades over the rest of its overlap; at the picture's own borders it counts in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from engines.errors import SettingsError
from engines.graphs import LATENT_MULTIPLE
from engines.profiles import Profile, choose_profile
from runtime.workspace import latent_size_needed

AUTO = "auto"
NEVER = "never"
"""On the command line; None in Python."""
UNTILED = 96 * 96
"""Latent pixels up to which "auto" leaves a picture whole, where the engines were not made for larger ones: attention
takes a token for each, and its time grows with their square."""
MARGIN = 4
"""32 pixels of the result: more than the 31 that the wavelet color fix looks aside."""
OVERLAP, OVERLAP_OF_SMALL, SMALL = 16, 8, 24
"""What tiles overlap by default, and those below 24, whose margins are less than the wavelet fix looks aside."""
SMALLEST, LARGEST = 16, 4096
"""Sides of tiles."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a picture is cut.

    Raises:
        SettingsError: a setting is outside its range.
    """

    tile: int | str | None = AUTO
    """Latent pixels of a tile's side (1/8 of the result's), a multiple of 8 from 16; "auto": pictures that are large,
    or larger than the engines take, are cut into tiles that the engines were made for; None: never."""
    overlap: int | None = None
    """Latent pixels that neighbors share, a multiple of 8 below the tile; None: 16, and 8 of tiles of 16."""
    batch: int | None = None
    """Tiles that go through an engine together; None: one on a CPU, more on a GPU, and fewer as the memory asks."""

    def __post_init__(self) -> None:
        if self.tile not in (AUTO, None) and not _multiple(self.tile, SMALLEST):
            raise SettingsError(
                f'tile must be "{AUTO}", "{NEVER}" (in Python None) or a multiple of 8 in {SMALLEST}..{LARGEST} '
                f"(latent pixels, 1/8 of the result's), not {self.tile!r}"
            )
        if self.overlap is not None and not _multiple(self.overlap, LATENT_MULTIPLE):
            raise SettingsError(f"tile_overlap must be a multiple of 8 from 8 on, or be left out, not {self.overlap!r}")
        if self.batch is not None and (type(self.batch) is not int or self.batch < 1):
            raise SettingsError(f"tile_batch must be a whole number from 1 on, or be left out, not {self.batch!r}")
        if isinstance(self.tile, int):
            overlap_of(self.tile, self.overlap)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Tiles along one side."""

    size: int
    """Of the canvas."""
    tile: int
    overlap: int

    @property
    def corners(self) -> tuple[int, ...]:
        """Where tiles begin; the last one ends with the canvas."""
        stride, last = self.tile - self.overlap, self.size - self.tile
        return (*range(0, last, stride), last)

    @property
    def shared(self) -> int:
        """The most that two neighbors overlap; 0 where there is one tile."""
        return max((a + self.tile - b for a, b in pairwise(self.corners)), default=0)

    def window(self, number: int, factor: int = 1) -> tuple[float, ...]:
        """What each pixel of a tile counts, float64; `factor`: pixels to one of the latent.

        It is the difference of two steps, of which the later never exceeds the earlier, each from 0 to 1 over what the
        tile and a neighbor share, less the margins: so windows add up to one, and three tiles may share a pixel.
        """
        corner = self.corners[number]
        ends = [self._step(number + side, corner, factor) for side in (0, 1)]
        return tuple(begun - over for begun, over in zip(*ends, strict=True))

    def _step(self, number: int, corner: int, factor: int) -> list[float]:
        """From the tile before to that tile, seen from a corner."""
        count = self.tile * factor
        if number == 0:
            return [1.0] * count
        if number == len(self.corners):
            return [0.0] * count
        before, own = self.corners[number - 1 : number + 1]
        margin = min(MARGIN, self.overlap // 4)
        first = (own + margin - corner) * factor
        length = (before + self.tile - own - 2 * margin) * factor
        return [_fade((i - first + 0.5) / length) for i in range(count)]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The tiles of a picture."""

    y: Axis
    x: Axis

    @property
    def tile(self) -> tuple[int, int]:
        """(h, w) of every tile."""
        return self.y.tile, self.x.tile

    @property
    def canvas(self) -> tuple[int, int]:
        """(H, W) of the whole latent."""
        return self.y.size, self.x.size

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return len(self.y.corners) * len(self.x.corners)

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """(row, column) of every tile, row by row."""
        return tuple((row, column) for row in range(len(self.y.corners)) for column in range(len(self.x.corners)))


def parse_tiling(tile: str, overlap: int | None, batch: int | None) -> Tiling:
    """From text: `tile` is "auto", "never" or a number.

    Raises:
        SettingsError: none of these, or see `Tiling`.
    """
    side = {NEVER: None, AUTO: AUTO}.get(tile, int(tile) if tile.isascii() and tile.isdigit() else tile)
    return Tiling(tile=side, overlap=overlap, batch=batch)


def batches(places: Sequence[tuple[int, int]], most: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """The tiles that go together."""
    for first in range(0, len(places), most):
        yield tuple(places[first : first + most])


def overlap_of(tile: int, asked: int | None) -> int:
    """What tiles of that side overlap.

    Raises:
        SettingsError: as much as the tile, or more.
    """
    overlap = asked or (OVERLAP if tile >= SMALL else OVERLAP_OF_SMALL)
    if overlap >= tile:
        raise SettingsError(
            f"tile_overlap is {overlap}, tiles are {tile} pixels of the latent; take a smaller overlap or larger tiles"
        )
    return overlap


def choose_grid(tiling: Tiling, profiles: Sequence[Profile], width: int, height: int) -> Grid | None:
    """The tiles of a low-resolution picture of that size; None: it goes through the engines whole, or not at all.

    Raises:
        SettingsError: no engine takes tiles of the size that was asked for.
    """
    needed = latent_size_needed(width, height)
    if tiling.tile is None:
        return None
    if isinstance(tiling.tile, int):
        if max(needed) <= tiling.tile:
            return None
        wanted = (tiling.tile, tiling.tile)
    else:
        whole = choose_profile(profiles, (1, *needed))
        if whole is not None and _area(profiles[whole].padded((1, *needed))) <= max(
            UNTILED, _area(profiles[whole].opt)
        ):
            return None
        wanted = max((profile.opt for profile in profiles), key=_area)[1:]
    tile = min(wanted[0], needed[0]), min(wanted[1], needed[1])
    chosen = choose_profile(profiles, (1, *tile))
    if chosen is None:
        raise SettingsError(
            f"tile is {tiling.tile}, this bundle's engines take at most "
            f"{' or '.join(dict.fromkeys(f'{p.max[1]}x{p.max[2]}' for p in profiles))} pixels of the latent; take a "
            "smaller tile"
        )
    _, *tile_sides = profiles[chosen].padded((1, *tile))
    if any(size > side < SMALLEST for size, side in zip(needed, tile_sides, strict=True)):
        return None
    axes = []
    for size, side in zip(needed, tile_sides, strict=True):
        overlap = overlap_of(side, tiling.overlap) if size > side else 0
        axes.append(Axis(size=max(size, side), tile=side, overlap=overlap))
    return Grid(y=axes[0], x=axes[1])


def _multiple(value: object, least: int) -> bool:
    return type(value) is int and least <= value <= LARGEST and value % LATENT_MULTIPLE == 0


def _area(size: tuple[int, int, int]) -> int:
    return size[1] * size[2]


def _fade(t: float) -> float:
    """0 before 0, 1 after 1, half a cosine between."""
    return (1.0 - math.cos(math.pi * min(max(t, 0.0), 1.0))) / 2
