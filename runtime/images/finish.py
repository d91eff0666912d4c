"""The last step: pixels of the network's size to the result. In: pixels and the input. Out: the result in its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from runtime.images.picture import Picture
from runtime.images.planes import bits_of, join, plane_at, split, to_pil
from runtime.kernels import Tensor


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
            planes = [plane.resize(size, Image.Resampling.LANCZOS) for plane in planes]
        if picture.alpha is not None:
            planes.append(plane_at(picture.alpha, bits).resize(size, Image.Resampling.BICUBIC))
        pixels = join(planes)
    if picture.is_buffer:
        return Finished(pixels=pixels, image=pixels)
    image = to_pil(pixels)
    image.info.update(picture.metadata)
    return Finished(pixels=pixels, image=image)
