"""Two pictures of the same: how far apart, and their difference to look at. In: float32 [1,3,h,w], about [0,1]. Out:
numbers, and PNG files in memory.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from engines.bundle import Precision
from export.figures import Array

PSNR_GATES = {
    # fp32: five steps enlarge the rounding of each network call; a picture of 8 bits has 59 dB of its own
    Precision.FP32: 80.0,
    # fp16: 57 dB were measured, on small and full-size random weights
    Precision.FP16: 45.0,
}
"""Least PSNR of the decoded picture, in dB."""
_LUMA = (0.299, 0.587, 0.114)
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
_MOST_PIXELS = 1024
"""Of a side of a picture in a report."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """A picture against the reference's, both clamped to [0,1]."""

    psnr: float
    """dB, peak 1; infinite where they are equal."""
    ssim: float
    """Of the lumas, 1 where they are equal."""
    max_abs: float


def likeness(picture: Array, reference: Array) -> Likeness:
    """Compares two pictures; NaN counts as 0."""
    ours, theirs = (np.nan_to_num(image.astype(np.float64)[0], posinf=1.0).clip(0, 1) for image in (picture, reference))
    error = float(np.mean((ours - theirs) ** 2))
    return Likeness(
        psnr=-10 * math.log10(error) if error else math.inf,
        ssim=_ssim(*(np.tensordot(np.asarray(_LUMA), image, 1) for image in (ours, theirs))),
        max_abs=float(np.abs(ours - theirs).max()),
    )


def _ssim(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Mean structural similarity (Wang et al. 2004) where the Gaussian window lies within the picture."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(alike / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))))


def _blurred(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    for axis in (0, 1):
        plane = np.lib.stride_tricks.sliding_window_view(plane, _WINDOW, axis) @ (weights / weights.sum())
    return plane


def png(picture: Array) -> bytes:
    """The picture as a PNG file of 8 bits."""
    return _encoded(np.nan_to_num(picture[0]).clip(0, 1))


def difference_png(picture: Array, reference: Array) -> tuple[bytes, float]:
    """The difference around mid-grey as a PNG file, and what it was multiplied with: a power of two that makes its
    largest value visible. What is NaN or infinite is magenta.
    """
    broken = ~np.isfinite(picture[0]).all(axis=0)
    difference = np.nan_to_num(picture[0].astype(np.float64)).clip(0, 1) - reference[0].astype(np.float64).clip(0, 1)
    largest = float(np.abs(difference).max())
    factor = max(1.0, 2.0 ** math.floor(math.log2(0.5 / largest))) if largest else 1.0
    shown = (0.5 + factor * difference).clip(0, 1)
    shown[:, broken] = np.array([[1.0], [0.0], [1.0]])
    return _encoded(shown), factor


def _encoded(planes: npt.NDArray[np.floating]) -> bytes:
    pixels = np.rint(planes.transpose(1, 2, 0) * 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return file.getvalue()
