"""How close a restored picture is to its original. In: float32 pictures [3, h, w] in [0, 1], NumPy arrays or torch
tensors on the CPU. Out: numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engines.errors import SettingsError

Floats = npt.NDArray[np.float64]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (BT.601)."""
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
GRID_PERIODS = (4, 8)
"""Pixels: a latent pixel is 8 wide, one of the low-resolution picture 4."""
_BESIDE = range(2, 7)
"""Distance in bins of a peak's neighbours; the window's main lobe reaches to 2."""
_FLOOR = 0.1
"""Of the original's energy: what a grid has to stand out from at least."""
_FLAT = 1e-12
"""Energy that 8-bit pictures do not have; keeps flat ones from 0 / 0."""


def psnr(image: npt.ArrayLike, original: npt.ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, peak 1; infinite for equal pictures.

    Raises:
        SettingsError: not two pictures [3, h, w] of one size.
    """
    first, second = _pair(image, original)
    error = float(np.mean((first - second) ** 2))
    return -10 * float(np.log10(error)) if error else float("inf")


def ssim(image: npt.ArrayLike, original: npt.ArrayLike) -> float:
    """Structural similarity of the lumas (Wang et al. 2004): Gaussian window 11x11 of sigma 1.5, data range 1, mean
    over the places where the whole window lies in the picture. At most 1.

    Raises:
        SettingsError: not two pictures [3, h, w] of one size, or smaller than 11x11.
    """
    x, y = (_luma(picture) for picture in _pair(image, original))
    if min(x.shape) < SSIM_WINDOW:
        raise SettingsError(f"SSIM takes pictures from {SSIM_WINDOW}x{SSIM_WINDOW}, not {x.shape[1]}x{x.shape[0]}")
    mu_x, mu_y = _window_mean(x), _window_mean(y)
    var_x, var_y = _window_mean(x * x) - mu_x**2, _window_mean(y * y) - mu_y**2
    covariance = _window_mean(x * y) - mu_x * mu_y
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    similarity = (2 * mu_x * mu_y + c1) * (2 * covariance + c2)
    return float(np.mean(similarity / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))))


def sharpness(image: npt.ArrayLike, original: npt.ArrayLike) -> float:
    """Mean gradient magnitude of the image's luma over that of the original's: 1 as sharp, below it blurred, above it
    oversharpened or noisy. Gradients are central differences (one-sided at the edges), as by `numpy.gradient`: half as
    sensitive to the noise of single pixels as neighbours' differences.

    Raises:
        SettingsError: not two pictures [3, h, w] of one size, or an original without any gradient.
    """
    first, second = (_mean_gradient(_luma(picture)) for picture in _pair(image, original))
    if not second:
        raise SettingsError("the original is one flat color, so it has no sharpness to compare with; take another crop")
    return first / second


def grid(image: npt.ArrayLike, original: npt.ArrayLike) -> float:
    """`grid_of` of one picture: jumps where the content itself is periodic, so no single picture should decide."""
    return grid_of([image], [original])


def grid_of(images: Sequence[npt.ArrayLike], originals: Sequence[npt.ArrayLike]) -> float:
    """How much more a grid with period 4 or 8 stands out in the images than in the originals: 1 where it does not.

    A picture's spectrum is the power of the Fourier transforms of the luma's differences along a line, under a Hann
    window, averaged over all rows and all columns. It is divided by the sum of the original's, so that every crop
    counts alike, and averaged over the pictures. A period's prominence is p / q: p the energy at its frequency (the
    mean of the bin and its two neighbours, which the window fills), q the geometric mean of the energies 2 to 6 bins
    away on both sides, which the steepness of a blurred picture's spectrum does not move. To both, a tenth of the
    original's q is added: where a picture has next to nothing at a frequency, that is no grid. The result is the
    images' prominence over the originals', the larger of both periods. A pattern along one direction only counts half.

    Args:
        images: float32 [3, h, w] in [0, 1], all of one size, from 65x65.
        originals: as many, in the same order.

    Raises:
        SettingsError: no pictures, lists of different lengths, sizes that differ, or pictures too small.
    """
    if not images or len(images) != len(originals):
        raise SettingsError(f"grid_of takes pairs of pictures, given {len(images)} images, {len(originals)} originals")
    pairs = [_pair(image, original) for image, original in zip(images, originals, strict=True)]
    if sizes := {pair[0].shape for pair in pairs} - {pairs[0][0].shape}:
        raise SettingsError(f"grid_of takes pictures of one size, given {pairs[0][0].shape} and {sizes.pop()}")
    powers = [[_power(_luma(picture)) for picture in pair] for pair in pairs]
    restored, true = (np.mean([pair[which] / pair[1].sum() for pair in powers], axis=0) for which in (0, 1))
    return max(_prominence(restored, true, period) / _prominence(true, true, period) for period in GRID_PERIODS)


def _power(luma: Floats) -> Floats:
    """Mean over rows and columns, at n / 2 + 1 frequencies of n differences, n a multiple of 8."""
    length = (min(luma.shape) - 1) // max(GRID_PERIODS) * max(GRID_PERIODS)
    if length < 8 * max(GRID_PERIODS):
        raise SettingsError(f"a grid is sought in pictures from 65x65, not {luma.shape[1]}x{luma.shape[0]}")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    lines = [np.diff(plane, axis=1)[:, :length] * window for plane in (luma, luma.T)]
    return np.asarray(np.mean([np.mean(np.abs(np.fft.rfft(d)) ** 2, axis=0) for d in lines], axis=0) + _FLAT)


def _prominence(power: Floats, original: Floats, period: int) -> float:
    peak = 2 * (len(power) - 1) // period
    beside = [peak + sign * distance for distance in _BESIDE for sign in (-1, 1)]
    floor = _FLOOR * np.exp(np.mean(np.log(original[beside])))
    neighbourhood = np.exp(np.mean(np.log(power[beside])))
    return float((np.mean(power[peak - 1 : peak + 2]) + floor) / (neighbourhood + floor))


def _mean_gradient(luma: Floats) -> float:
    down, right = np.gradient(luma)
    return float(np.mean(np.hypot(down, right)))


def _window_mean(plane: Floats) -> Floats:
    """The Gaussian window's weighted mean at every place where it fits."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        plane = np.lib.stride_tricks.sliding_window_view(plane, SSIM_WINDOW, axis) @ weights
    return plane


def _luma(picture: Floats) -> Floats:
    return np.asarray(np.tensordot(np.asarray(LUMA), picture, 1))


def _pair(image: npt.ArrayLike, original: npt.ArrayLike) -> tuple[Floats, Floats]:
    first, second = (np.asarray(picture) for picture in (image, original))
    if first.shape != second.shape or first.ndim != 3 or len(first) != 3:
        raise SettingsError(f"measures take two pictures [3, h, w] of one size, not {first.shape} and {second.shape}")
    return first.astype(np.float64), second.astype(np.float64)
