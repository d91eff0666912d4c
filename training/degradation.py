"""Real-ESRGAN's degradation. In: an original and a random generator. Out: the low-resolution picture.

Two rounds of blur, resize, noise and JPEG, the second at about a quarter of the size, ending in the exact quarter with
a sinc filter, before or after its JPEG. Source: arXiv:2107.10833, section 3; the ranges are milder than there, and a
share of the pictures goes through one plain camera instead: a small network that meets only the worst learns to smooth
everything.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

_SMALLEST = 8
"""No side becomes shorter, pixels."""
_MODES = ("area", "bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class Round:
    """The ranges of one round. Chances in [0,1]; noise as standard deviation in 1/255; sizes relative."""

    blur_chance: float
    blur: tuple[float, float]
    """Standard deviation of the kernel, pixels."""
    sinc_chance: float
    up_chance: float
    down_chance: float
    sizes: tuple[float, float]
    noise: tuple[float, float]
    poisson_chance: float
    poisson: tuple[float, float]
    grey_noise_chance: float
    quality: tuple[int, int]
    jpeg_chance: float


FIRST = Round(
    blur_chance=0.9,
    blur=(0.2, 2.6),
    sinc_chance=0.1,
    up_chance=0.1,
    down_chance=0.5,
    sizes=(0.4, 1.3),
    noise=(0.0, 16.0),
    poisson_chance=0.3,
    poisson=(0.05, 1.5),
    grey_noise_chance=0.3,
    quality=(40, 95),
    jpeg_chance=0.7,
)
SECOND = Round(
    blur_chance=0.4,
    blur=(0.2, 1.2),
    sinc_chance=0.1,
    up_chance=0.2,
    down_chance=0.2,
    sizes=(0.6, 1.5),
    noise=(0.0, 18.0),
    poisson_chance=0.2,
    poisson=(0.05, 1.2),
    grey_noise_chance=0.3,
    quality=(45, 95),
    jpeg_chance=0.9,
)
_FIRST_CHANCE = 0.35
"""How often the first round goes beyond its blur."""
_CAMERA_CHANCE = 0.5
"""How often a picture goes through `_camera` instead of the two rounds."""


def degrade(original: Tensor, rng: np.random.Generator, scale: int = 4) -> Tensor:
    """The original made small and bad.

    Args:
        original: [3,H,W] float32 in [0,1]; sides are multiples of `scale`.
        rng: decides everything.
        scale: how much smaller the result is.

    Returns:
        [3,H/scale,W/scale] float32 in [0,1], on the 8-bit grid.
    """
    height, width = original.shape[1] // scale, original.shape[2] // scale
    if rng.random() < _CAMERA_CHANCE:
        return _eight_bits(_camera(original[None], height, width, rng))
    image = _blur(original[None], rng, FIRST)
    if rng.random() < _FIRST_CHANCE:
        image = _resize(image, original.shape[1], original.shape[2], rng, FIRST)
        image = _jpeg(_noise(image, rng, FIRST), rng, FIRST)
        image = _blur(image, rng, SECOND)
    image = _resize(image, height, width, rng, SECOND)
    image = _noise(image, rng, SECOND)
    sharpen = rng.random() < 0.3
    if rng.random() < 0.5:
        image = _jpeg(_sinc(_fit(image, height, width, rng), rng, sharpen), rng, SECOND)
    else:
        image = _sinc(_fit(_jpeg(image, rng, SECOND), height, width, rng), rng, sharpen)
    return _eight_bits(image)


def _camera(image: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """What a lens, a sensor and their file do: even blur, areas averaged, noise, JPEG."""
    sigma = rng.uniform(*FIRST.blur)
    blurred = _filter(image, gaussian_kernel(2 * math.ceil(3 * sigma) + 1, (sigma, sigma), 0.0))
    small = functional.interpolate(blurred, size=(height, width), mode="area")
    return _jpeg(_noise(small, rng, SECOND), rng, SECOND)


def _eight_bits(image: Tensor) -> Tensor:
    """[1,3,H,W] as [3,H,W] on the 8-bit grid."""
    return (image[0].clamp(0, 1) * 255).round() / 255


def gaussian_kernel(side: int, sigma: tuple[float, float], angle: float, beta: float = 1.0) -> Tensor:
    """A generalised Gaussian [side,side] of two standard deviations, turned by an angle; it sums to 1.

    Args:
        side: odd.
        sigma: along and across, pixels.
        angle: radians.
        beta: 1 is the Gaussian; below it tails are heavier, above it the top is flatter.
    """
    reach = torch.arange(side, dtype=torch.float32) - side // 2
    y, x = torch.meshgrid(reach, reach, indexing="ij")
    along = (x * math.cos(angle) + y * math.sin(angle)) / sigma[0]
    across = (y * math.cos(angle) - x * math.sin(angle)) / sigma[1]
    kernel = torch.exp(-0.5 * (along**2 + across**2) ** beta)
    return kernel / kernel.sum()


def sinc_kernel(side: int, cutoff: float) -> Tensor:
    """A circular low-pass filter [side,side] that rings; `cutoff` in radians a pixel, up to pi. It sums to 1."""
    reach = torch.arange(side, dtype=torch.float32) - side // 2
    y, x = torch.meshgrid(reach, reach, indexing="ij")
    radius = torch.sqrt(x**2 + y**2).clamp(min=1e-3)
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[side // 2, side // 2] = cutoff**2 / (4 * math.pi)
    normalised: Tensor = kernel / kernel.sum()
    return normalised


def _filter(image: Tensor, kernel: Tensor) -> Tensor:
    reach = kernel.shape[-1] // 2
    padded = functional.pad(image, (reach,) * 4, mode="replicate")
    return functional.conv2d(padded, kernel.expand(3, 1, -1, -1), groups=3)


def _blur(image: Tensor, rng: np.random.Generator, settings: Round) -> Tensor:
    if rng.random() >= settings.blur_chance:
        return image
    if rng.random() < settings.sinc_chance:
        return _filter(image, sinc_kernel(13, rng.uniform(math.pi / 3, math.pi)))
    one = rng.uniform(*settings.blur)
    other = one if rng.random() < 0.6 else rng.uniform(*settings.blur)
    beta = 1.0 if rng.random() < 0.75 else rng.uniform(0.5, 2.0)
    side = 2 * math.ceil(2.5 * max(one, other)) + 1
    return _filter(image, gaussian_kernel(side, (one, other), rng.uniform(0, math.pi), beta))


def _sinc(image: Tensor, rng: np.random.Generator, wanted: bool) -> Tensor:
    return _filter(image, sinc_kernel(11, rng.uniform(math.pi / 2, math.pi))) if wanted else image


def _resize(image: Tensor, height: int, width: int, rng: np.random.Generator, settings: Round) -> Tensor:
    """To that size, or by chance to a somewhat larger or smaller one."""
    kind, factor = rng.random(), 1.0
    if kind < settings.up_chance:
        factor = rng.uniform(1, settings.sizes[1])
    elif kind < settings.up_chance + settings.down_chance:
        factor = rng.uniform(settings.sizes[0], 1)
    tall, wide = (max(_SMALLEST, round(side * factor)) for side in (height, width))
    return _fit(image, tall, wide, rng)


def _fit(image: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    mode = _MODES[rng.integers(len(_MODES))]
    smooth = mode != "area" and bool(rng.random() < 0.5)
    return functional.interpolate(image, size=(height, width), mode=mode, antialias=smooth)


def _noise(image: Tensor, rng: np.random.Generator, settings: Round) -> Tensor:
    channels = 1 if rng.random() < settings.grey_noise_chance else 3
    normal = torch.from_numpy(rng.standard_normal((1, channels, *image.shape[2:]), dtype=np.float32))
    if rng.random() < settings.poisson_chance:
        light = image.mean(dim=1, keepdim=True) if channels == 1 else image
        deviation = rng.uniform(*settings.poisson) * (light.clamp(0, 1) / 255).sqrt()
        return (image + deviation * normal).clamp(0, 1)
    return (image + rng.uniform(*settings.noise) / 255 * normal).clamp(0, 1)


def _jpeg(image: Tensor, rng: np.random.Generator, settings: Round) -> Tensor:
    if rng.random() >= settings.jpeg_chance:
        return image
    pixels = (image[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(settings.quality[0], settings.quality[1] + 1)))
    decoded = np.asarray(Image.open(file), dtype=np.float32) / 255
    return torch.from_numpy(decoded).permute(2, 0, 1)[None].contiguous()
