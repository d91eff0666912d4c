"""What a decoded input is, and how many pixels one may have. In: fields. Out: a `Picture`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from engines.errors import ImageDecodeError, ImageTooLargeError, SettingsError

MAX_PIXELS = 64_000_000
"""Inputs with more are refused before they are decoded."""

DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
)
"""What Pillow raises for damaged files and damaged EXIF."""

DEPTHS = (8, 16)
"""Bits a channel that pictures have here."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded input, upright."""

    pixels: Any
    """uint8 or uint16 [h, w, 1, 3 or 4], row by row: a buffer. A single channel is grey, a fourth is `alpha` again."""
    width: int
    height: int
    bit_depth: int = 8
    """8 or 16, of `pixels` and `alpha`."""
    alpha: Image.Image | None = None
    """Mode L, at 16 bits I;16."""
    grey: bool = False
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    """`icc_profile` and `exif`, passed on to the result."""
    notices: tuple[str, ...] = ()
    """What of the input is not in `pixels`, a sentence each."""
    is_buffer: bool = False
    """Came as a buffer and goes back as one."""


def check_size(width: int, height: int, where: str) -> None:
    """Whether a picture of that size is read.

    Raises:
        ImageTooLargeError: more than `MAX_PIXELS`.
        ImageDecodeError: no pixels.
    """
    if width * height > MAX_PIXELS:
        raise ImageTooLargeError(
            f"{where} has {width}x{height} pixels, at most {MAX_PIXELS} are read; crop or shrink it first"
        )
    if width < 1 or height < 1:
        raise ImageDecodeError(f"{where} has {width}x{height} pixels; expected at least 1x1")


def check_depth(bit_depth: int | None) -> None:
    """Whether a result can have so many bits a channel.

    Raises:
        SettingsError: neither 8 nor 16 nor None.
    """
    if bit_depth is not None and (type(bit_depth) is not int or bit_depth not in DEPTHS):
        raise SettingsError(f"bit_depth must be 8 or 16, not {bit_depth!r}")
