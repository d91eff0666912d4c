"""The crops that every model is judged on. In: three photographs that come with scikit-image and scikit-learn. Out: 24
originals, each with its low-resolution picture at three levels of degradation.

Evenly spaced windows of 256x256, 4 across and 2 down, reach from edge to edge of each photograph; they overlap where it
is narrower than 1024 or lower than 512. A level blurs (Gaussian, symmetric border), averages 4x4 pixels into one, adds
Gaussian noise, rounds to 8 bits, and saves as JPEG as Pillow does by default (4:2:0). Bicubic enlarging then stands at
24.5, 23.5 and 22.7 dB and at a sharpness of 0.46, 0.47 and 0.48.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from engines.graphs import UPSCALE
from training.photographs import EVALUATION, load

Bytes = npt.NDArray[np.uint8]
Picture = npt.NDArray[np.float32]

CROP = 256
ACROSS, DOWN = 4, 2


@dataclass(frozen=True, kw_only=True)
class Level:
    """How strongly an original is degraded."""

    blur: float
    """Sigma in pixels of the original."""
    noise: float
    """Standard deviation, of 255."""
    quality: int
    """Of the JPEG."""


LEVELS = {
    "light": Level(blur=1, noise=5, quality=90),
    "middle": Level(blur=1.5, noise=10, quality=75),
    "hard": Level(blur=2, noise=15, quality=60),
}
"""The lightest first."""
LIGHTEST, *HARDER = LEVELS


@dataclass(frozen=True, kw_only=True)
class Crop:
    """One window of a photograph."""

    name: str
    """"chelsea-0" to "china-7"."""
    photograph: str
    """Name of a row of `photographs.EVALUATION`."""
    original: Picture
    """float32 [3, 256, 256] in [0, 1]."""
    levels: Mapping[str, Bytes]
    """Name of the level to its low-resolution picture, uint8 [64, 64, 3]."""


def crops(each: int = ACROSS * DOWN) -> list[Crop]:
    """The first `each` crops of every photograph, always the same ones.

    Raises:
        PackageMissingError, PhotographMissingError: scikit-image or scikit-learn is not installed, or lacks its
            picture.
    """
    found = []
    for number, row in enumerate(EVALUATION):
        photograph = load(row)
        for i, (top, left) in enumerate(_corners(*photograph.shape[:2])[:each]):
            window = photograph[top : top + CROP, left : left + CROP]
            found.append(
                Crop(
                    name=f"{row.name}-{i}",
                    photograph=row.name,
                    original=planar(window),
                    levels={
                        level: degrade(window, strength, (number, i, order))
                        for order, (level, strength) in enumerate(LEVELS.items())
                    },
                )
            )
    return found


def degrade(window: Bytes, level: Level, seed: Sequence[int]) -> Bytes:
    """The low-resolution picture of a crop.

    Args:
        window: uint8 [h, w, 3], sides multiples of 4.
        level: how strongly.
        seed: of the noise. `RandomState`, as its stream is the same in every version of NumPy.

    Returns:
        uint8 [h / 4, w / 4, 3].
    """
    height, width, _ = window.shape
    blurred = _blur(window.astype(np.float64), level.blur)
    small = blurred.reshape(height // UPSCALE, UPSCALE, width // UPSCALE, UPSCALE, 3).mean(axis=(1, 3))
    small += np.random.RandomState(list(seed)).normal(0, level.noise, small.shape)
    file = io.BytesIO()
    Image.fromarray(np.rint(small).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=level.quality)
    with Image.open(file) as saved:
        return np.asarray(saved.convert("RGB"))


def bicubic(low_res: Bytes) -> Picture:
    """A picture uint8 [h, w, 3] enlarged four times by Pillow: float32 [3, 4h, 4w] in [0, 1]."""
    height, width, _ = low_res.shape
    size = (UPSCALE * width, UPSCALE * height)
    return planar(np.asarray(Image.fromarray(low_res).resize(size, Image.Resampling.BICUBIC)))


def planar(pixels: Bytes) -> Picture:
    """uint8 [h, w, 3] as float32 [3, h, w] in [0, 1]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def _corners(height: int, width: int) -> list[tuple[int, int]]:
    """(top, left) of each window, row by row."""
    tops, lefts = (
        [round(i * (side - CROP) / (count - 1)) for i in range(count)]
        for side, count in ((height, DOWN), (width, ACROSS))
    )
    return [(top, left) for top in tops for left in lefts]


def _blur(pixels: npt.NDArray[np.float64], sigma: float) -> npt.NDArray[np.float64]:
    """A Gaussian cut off at 4 sigma, over the first two axes."""
    radius = int(np.ceil(4 * sigma))
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    for axis in (0, 1):
        border = [(0, 0)] * pixels.ndim
        border[axis] = (radius, radius)
        padded = np.pad(pixels, border, mode="symmetric")
        pixels = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis) @ weights
    return pixels
