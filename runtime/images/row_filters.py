"""Rows written as differences, which deflate packs better. In: rows of bytes. Out: as many bytes.

Pillow's image arithmetic does it, a byte a pixel: hundreds of megabytes a second, outside Python's lock.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from PIL import Image, ImageChops

_SAMPLE_ROWS = 12

_RowFilter = Callable[[Image.Image, Image.Image, Image.Image], Image.Image]
_PNG_FILTERS: dict[int, _RowFilter] = {
    0: lambda row, _left, _above: row,
    1: lambda row, left, _above: ImageChops.subtract_modulo(row, left),
    2: lambda row, _left, above: ImageChops.subtract_modulo(row, above),
    3: lambda row, left, above: ImageChops.subtract_modulo(row, ImageChops.add(left, above, scale=2.0)),
}
"""PNG's number of a filter to what it makes of the bytes, those to their left (a pixel back), and those above."""


def png_rows(samples: bytes, above: bytes, step: int) -> bytes:
    """Rows as a PNG file has them: each behind the number of its filter, the one that packs a few of the rows best.

    Args:
        samples: rows of bytes; 16-bit samples have the high byte first.
        above: the row before them, zeros before the first; says how long a row is.
        step: bytes a pixel.
    """
    stride = len(above)
    rows = _image(samples, stride)
    left, over = _shifted(rows, step), _image(above + samples, stride)
    count = rows.height
    step_rows = max(1, count // _SAMPLE_ROWS)

    def packed(number: int) -> int:
        lines = [(0, y, stride, y + 1) for y in range(0, count, step_rows)]
        parts = [_PNG_FILTERS[number](*(plane.crop(line) for plane in (rows, left, over))) for line in lines]
        return len(zlib.compress(b"".join(part.tobytes() for part in parts), 1))

    best = min(_PNG_FILTERS, key=packed)
    filtered = Image.new("L", (1 + stride, count), best)
    filtered.paste(_PNG_FILTERS[best](rows, left, over.crop((0, 0, stride, count))), (1, 0))
    return filtered.tobytes()


def tiff_rows(samples: bytes, stride: int, channels: int, bits: int) -> bytes:
    """Rows as differences from the pixel to the left (TIFF's predictor 2).

    Args:
        samples: rows of `stride` bytes; 16-bit samples have the low byte first.
        channels: samples a pixel.
        bits: 8 or 16 a sample.
    """
    if bits == 8:
        rows = _image(samples, stride)
        return ImageChops.subtract_modulo(rows, _shifted(rows, channels)).tobytes()
    low, high = (_image(samples[part::2], stride // 2) for part in (0, 1))
    low_left = _shifted(low, channels)
    borrow = ImageChops.subtract(low_left, low).point([0] + [1] * 255)  # 1 where the low byte goes below zero
    differences = bytearray(len(samples))
    differences[::2] = ImageChops.subtract_modulo(low, low_left).tobytes()
    high = ImageChops.subtract_modulo(high, _shifted(high, channels))
    differences[1::2] = ImageChops.subtract_modulo(high, borrow).tobytes()
    return bytes(differences)


def _image(samples: bytes, stride: int) -> Image.Image:
    return Image.frombuffer("L", (stride, len(samples) // stride), samples, "raw", "L", 0, 1)


def _shifted(rows: Image.Image, step: int) -> Image.Image:
    """The rows moved right by that many bytes, zeros to their left."""
    moved = Image.new("L", rows.size)
    moved.paste(rows, (step, 0))
    return moved
