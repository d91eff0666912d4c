"""What every engine is given. In: a bundle's axes, an image file or none, a seed. Out: the same picture and the same
noise for all.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from engines.bundle import Manifest
from engines.errors import ImageDecodeError, ImageNotFoundError, ImageTooLargeError
from engines.graphs import LATENT_CHANNELS, LOW_RES_MULTIPLE, UPSCALE, VAE_FACTOR, AxisRange
from export.figures import Array

_LOW = VAE_FACTOR // UPSCALE
_DEFAULT = (32, 48)
"""Height and width of the picture that is made where none is given: not square, so that swapped sides show."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture and its noise."""

    image: Array
    """[1,3,h,w] in [0,1]; sides are what the bundle takes."""
    noise: tuple[Array, ...]
    """[1,4,H,W] each: the posterior's, the start's, then one a step."""
    label: str
    """For people: where the picture comes from."""

    @property
    def latent(self) -> tuple[int, int]:
        """H and W."""
        height, width = self.noise[0].shape[2:]
        return height, width


def make_sample(manifest: Manifest, image: Path | None, steps: int, seed: int) -> Sample:
    """The picture, padded by reflection to what the bundle takes, and normal noise of NumPy's PCG64.

    Raises:
        ImageNotFoundError, ImageDecodeError: the file cannot be read.
        ImageTooLargeError: the picture is larger than the bundle's shape.
    """
    axes = manifest.axes
    pixels = _made(axes) if image is None else _read(image)
    padded = _padded(pixels, axes)
    height, width = (side // _LOW for side in padded.shape[:2])
    generator = np.random.Generator(np.random.PCG64(seed))
    noise = tuple(generator.standard_normal((1, LATENT_CHANNELS, height, width), np.float32) for _ in range(steps + 2))
    label = f"{pixels.shape[1]}x{pixels.shape[0]} pixels, " + ("made" if image is None else image.name)
    return Sample(image=np.ascontiguousarray(padded.transpose(2, 0, 1)[None]), noise=noise, label=label)


def _made(axes: Mapping[str, AxisRange]) -> Array:
    """Slopes, edges, a disc and fine grain, [h,w,3]."""
    height, width = (min(side, axes[axis].max) for side, axis in zip(_DEFAULT, "hw", strict=True))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = np.stack([x / width, y / height, 1 - x / width], axis=-1)
    bars = ((x // 3 + y // 5) % 2)[..., None]
    disc = ((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2)[..., None]
    grain = np.random.Generator(np.random.PCG64(1)).random((height, width, 3), np.float32)
    mixed = np.where(disc, 0.8 - 0.6 * slope, 0.6 * slope + 0.25 * bars) + 0.1 * grain
    found: Array = mixed.clip(0, 1).astype(np.float32)
    return found


def _read(path: Path) -> Array:
    if not path.is_file():
        raise ImageNotFoundError(f"cannot read --image {path}: there is no such file; correct the path")
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("ignore")
            return np.asarray(picture.convert("RGB"), np.float32) / np.float32(255)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageDecodeError(
            f"{path} is not a picture that can be read ({type(error).__name__}); give a PNG or JPEG file"
        ) from error


def _padded(pixels: Array, axes: Mapping[str, AxisRange]) -> Array:
    pads = []
    for side, axis in zip(pixels.shape[:2], "hw", strict=True):
        needed = max(-(-side // LOW_RES_MULTIPLE) * LOW_RES_MULTIPLE, axes[axis].min)
        if needed > axes[axis].max:
            raise ImageTooLargeError(
                f"the picture is {pixels.shape[1]}x{pixels.shape[0]}, this bundle takes at most {axes['w'].max}x"
                f"{axes['h'].max}; give a smaller --image"
            )
        pads.append((0, needed - side))
    found: Array = np.pad(pixels, [*pads, (0, 0)], mode="reflect" if min(pixels.shape[:2]) > 1 else "edge")
    return found
