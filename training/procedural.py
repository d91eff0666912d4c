"""Pictures made by rule, to train on without anyone's photographs. In: a random generator. Out: a picture.

A new kind of picture is one function of `Painter`'s form and one line in `KINDS`.
"""

from __future__ import annotations

from numpy.random import Generator

from engines.errors import SettingsError
from training.lettering import lettering
from training.shapes import leaves, line_art, polygons
from training.textures import Painter, Pixels, gradient, pick, texture

SMALLEST = 16

KINDS: tuple[tuple[float, Painter], ...] = (
    (8, leaves),
    (4, texture),
    (3, lettering),
    (2, line_art),
    (2, polygons),
    (0.7, gradient),
)


def draw(rng: Generator, size: int) -> Pixels:
    """One random picture of a random kind: uint8 [size, size, 3], RGB, 0..255, the same for the same generator state.

    Raises:
        SettingsError: `size` is below 16.
        PackageMissingError: matplotlib, which carries the fonts, is not installed.
    """
    if size < SMALLEST:
        raise SettingsError(f"a picture has {size} pixels a side; pass a size of at least {SMALLEST}")
    return pick(rng, KINDS)(rng, size)
