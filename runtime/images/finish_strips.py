"""The last step, strip by strip: what `finish_picture` makes of the whole. In: rows of the network's size, from top to
bottom. Out: rows of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from PIL import Image

from runtime.images.picture import Picture
from runtime.images.planes import bits_of, join, plane_at, split
from runtime.kernels import Tensor

_REACH = 3  # rows of the larger picture that Pillow's Lanczos looks at, on either side
_MARGIN = 2


class FinishedRows:
    """Resizes and adds the input's alpha. Holds the rows that the resize still looks at, and the alpha.

    The result is that of `finish_picture`, to a difference of 1 where Pillow, which takes a strip's place as float32,
    rounds the other way.

    Args:
        picture: the input.
        given: (width, height) of the rows that come.
        size: (width, height) of the result.
    """

    def __init__(self, picture: Picture, given: tuple[int, int], size: tuple[int, int]) -> None:
        self._picture, self._given, self._size = picture, given, size
        self._step = given[1] / size[1]
        self._reach = _REACH * max(1.0, self._step) + _MARGIN
        self._window: list[Image.Image] = []
        self._top = 0
        """The window's first row."""
        self._done = 0
        """Rows of the result that were made."""
        self._alpha: Image.Image | None = None

    @property
    def channels(self) -> int:
        """Of the result."""
        return (1 if self._picture.grey else 3) + (self._picture.alpha is not None)

    def push(self, rows: Tensor) -> Iterator[Tensor]:
        """The rows of the result that can be made now: none, or one uint8 or uint16 [n, width, channels].

        Args:
            rows: the next ones, uint8 or uint16 [n, given width, 1 or 3].
        """
        if self._size == self._given:
            yield self._with_alpha(rows)
            return
        wide = [
            plane.resize((self._size[0], plane.height), Image.Resampling.LANCZOS)
            for plane in split(rows, bits_of(rows))
        ]
        self._window = [_stacked(pair) for pair in zip(self._window, wide, strict=True)] if self._window else wide
        end = self._ready(self._top + self._window[0].height)
        if end > self._done:
            done = [_rows(p, self._done, end, self._step, self._top, Image.Resampling.LANCZOS) for p in self._window]
            yield self._with_alpha(join(done))
            self._forget()

    def _ready(self, bottom: int) -> int:
        """The end of the rows of the result that look at no row from `bottom` on."""
        return self._size[1] if bottom == self._given[1] else math.floor((bottom - self._reach) / self._step)

    def _forget(self) -> None:
        """Drops the rows that the next ones do not look at."""
        first = self._window[0]
        keep = min(max(0, math.floor(self._done * self._step - self._reach) - self._top), first.height - 1)
        self._window = [plane.crop((0, keep, plane.width, plane.height)) for plane in self._window]
        self._top += keep

    def _with_alpha(self, rows: Tensor) -> Tensor:
        begin, end = self._done, self._done + rows.shape[0]
        self._done = end
        if self._picture.alpha is None:
            return rows
        bits, how = bits_of(rows), Image.Resampling.BICUBIC
        if self._alpha is None:
            self._alpha = plane_at(self._picture.alpha, bits)
        step = self._alpha.height / self._size[1]
        reach = _REACH * max(1.0, step) + _MARGIN
        top, bottom = max(0, math.floor(begin * step - reach)), min(self._alpha.height, math.ceil(end * step + reach))
        near = self._alpha.crop((0, top, self._alpha.width, bottom)).resize((self._size[0], bottom - top), how)
        return join([*split(rows, bits), _rows(near, begin, end, step, top, how)])


def _rows(plane: Image.Image, begin: int, end: int, step: float, top: int, how: Image.Resampling) -> Image.Image:
    """Rows `begin` to `end` of a resized picture, `step` rows of which make one, of a plane that begins at `top`."""
    box = (0, begin * step - top, plane.width, min(end * step - top, plane.height))
    return plane.resize((plane.width, end - begin), how, box)


def _stacked(planes: Sequence[Image.Image]) -> Image.Image:
    stack = Image.new(planes[0].mode, (planes[0].width, sum(plane.height for plane in planes)))
    top = 0
    for plane in planes:
        stack.paste(plane, (0, top))
        top += plane.height
    return stack
