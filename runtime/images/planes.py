"""Interleaved pixels as Pillow's single-channel images, and back. Pillow resizes and turns 16 bits in one channel, and
has no mode for several. In: a `Tensor`, or planes. Out: planes, or a `Tensor`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any, cast

from PIL import Image

from runtime.kernels import Tensor, change_depth

PIL_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Channels to Pillow's mode of 8 bits."""

_LETTER = {8: "B", 16: "H"}


def bits_of(pixels: Tensor) -> int:
    """8 or 16."""
    return 16 if pixels.dtype == "uint16" else 8


def plane_from_bytes(samples: Any, size: tuple[int, int], bits: int) -> Image.Image:
    """A copy of samples in this machine's byte order as an image of mode L or I;16."""
    if bits == 8:
        return Image.frombytes("L", size, samples)
    return Image.frombytes("I;16", size, samples, "raw", "I;16N")


def plane_bytes(plane: Image.Image) -> bytes:
    """The samples of an image of mode L or I;16, row by row, in this machine's byte order."""
    return plane.tobytes() if plane.mode == "L" else plane.tobytes("raw", "I;16N")


def flat(pixels: Any, bits: int) -> memoryview:
    """The samples of a C-contiguous buffer as one row."""
    return memoryview(pixels).cast("B").cast(_LETTER[bits])  # type: ignore[call-overload, no-any-return]


def in_order(samples: bytes, bits: int, order: str) -> bytes:
    """Samples of this machine's byte order in "big" or "little" order, and the other way round."""
    if bits == 8 or sys.byteorder == order:
        return samples
    swapped = array("H", samples)
    swapped.byteswap()
    return swapped.tobytes()


def split(pixels: Any, bits: int) -> list[Image.Image]:
    """The channels of uint8 or uint16 [h, w, c], C-contiguous, as images of mode L or I;16."""
    height, width, channels = memoryview(pixels).shape  # type: ignore[misc]
    samples = flat(pixels, bits)
    return [plane_from_bytes(samples[c::channels].tobytes(), (width, height), bits) for c in range(channels)]


def join(planes: Sequence[Image.Image]) -> Tensor:
    """uint8 or uint16 [h, w, c] of planes that are all of mode L, or all I;16."""
    bits = 8 if planes[0].mode == "L" else 16
    width, height = planes[0].size
    pixels = Tensor((height, width, len(planes)), f"uint{bits}")
    samples = flat(pixels, bits)
    for c, plane in enumerate(planes):
        samples[c :: len(planes)] = memoryview(plane_bytes(plane)).cast(_LETTER[bits])  # type: ignore[call-overload]
    return pixels


def plane_at(plane: Image.Image, bits: int) -> Image.Image:
    """A plane in mode L (8 bits) or I;16 (16 bits)."""
    return split(at_depth(join([plane]), bits), bits)[0]


def resized(plane: Image.Image, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """Resized along the rows, then along the columns: the order that strips allow. Pillow takes it, too, where both
    sides change alike, and otherwise sometimes the other one, which rounds and clips elsewhere.
    """
    return plane.resize((size[0], plane.height), how).resize(size, how)


def at_depth(pixels: Tensor, bits: int) -> Tensor:
    """The pixels in 8 or 16 bits, rounded to the nearest; the same object where they are so already."""
    if bits_of(pixels) == bits:
        return pixels
    changed = Tensor(pixels.shape, f"uint{bits}")
    change_depth(pixels, changed)
    return changed


def to_pil(pixels: Tensor) -> Image.Image:
    """uint8 [h, w, 1 to 4] as L, LA, RGB or RGBA; uint16 [h, w, 1] as I;16, and with more channels in 8 bits, because
    Pillow has no mode that holds them.
    """
    height, width, channels = pixels.shape
    if pixels.dtype == "uint16" and channels == 1:
        return split(pixels, 16)[0]
    mode = PIL_MODES[channels]
    return Image.frombuffer(mode, (width, height), cast(Any, at_depth(pixels, 8)), "raw", mode, 0, 1)
