"""The last step: pixels of the network's size to the result. In: pixels and the input. Out: the result in its kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from engines.errors import SettingsError
from runtime.images.picture import Picture
from runtime.images.planes import bits_of, join, plane_at, resized, split, to_pil
from runtime.kernels import Tensor

MAX_SCALE = 16.0


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A result in two forms."""

    pixels: Tensor
    """uint8 or uint16 [H, W, 1 to 4]: grey, grey and alpha, RGB, RGBA."""
    image: Any
    """PIL.Image.Image (of 16-bit pixels with several channels, in 8 bits); for a buffer input, `pixels`."""


def finish_picture(pixels: Tensor, picture: Picture, size: tuple[int, int]) -> Finished:
    """Resizes to `size` and puts the input's alpha and metadata to it, at the pixels' depth.

    Args:
        pixels: uint8 or uint16 [4h, 4w, 1 or 3].
        picture: the input.
        size: (width, height) of the result.
    """
    height, width = pixels.shape[:2]
    bits = bits_of(pixels)
    if size != (width, height) or picture.alpha is not None:
        planes = split(pixels, bits)
        if size != (width, height):
            planes = [resized(plane, size, Image.Resampling.LANCZOS) for plane in planes]
        if picture.alpha is not None:
            planes.append(resized(plane_at(picture.alpha, bits), size, Image.Resampling.BICUBIC))
        pixels = join(planes)
    if picture.is_buffer:
        return Finished(pixels=pixels, image=pixels)
    image = to_pil(pixels)
    image.info.update(picture.metadata)
    return Finished(pixels=pixels, image=image)


def check_scale(scale: float) -> None:
    """Whether a picture can be enlarged by that.

    Raises:
        SettingsError: not a number above 0 and up to `MAX_SCALE`.
    """
    valid = isinstance(scale, int | float) and not isinstance(scale, bool) and math.isfinite(scale)
    if not valid or not 0 < scale <= MAX_SCALE:
        raise SettingsError(f"scale must be a number above 0 and at most {MAX_SCALE:g}, not {scale!r}")


def result_size(picture: Picture, scale: float) -> tuple[int, int]:
    """(width, height) of the result, at least 1x1."""
    return scaled(picture.width, picture.height, scale)


def scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    """(width, height) of the result of a picture of that size, at least 1x1."""
    return max(1, round(width * scale)), max(1, round(height * scale))
