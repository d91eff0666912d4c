"""Pairs of originals and degraded pictures. In: photographs, drawings, a seed. Out: a torch dataset.

Sample i depends on (seed, stage, i) alone, so that neither workers nor a resumed run change what is seen.
"""

from __future__ import annotations

import colorsys
import functools

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from training.degradation import degrade
from training.photographs import load, training_photographs
from training.procedural import draw

_PHOTOGRAPH_CHANCE = 0.6
_MOST_ENLARGED = 2.5
"""A crop covers up to this many times its side of the photograph, and is reduced."""

Pixels = NDArray[np.uint8]


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """(original [3,S,S], low resolution [3,S/4,S/4]) float32 in [0,1]; without degradation the second is empty."""

    def __init__(self, *, seed: int, stage: int, length: int, side: int, degraded: bool) -> None:
        self._key = (seed, stage)
        self._length = length
        self._side = side
        self._degraded = degraded

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([*self._key, index])
        picture = sample(rng, self._side)
        original = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1).contiguous()
        return original, degrade(original, rng) if self._degraded else torch.empty(0)


def sample(rng: np.random.Generator, side: int) -> Pixels:
    """One original [side,side,3] uint8: a crop of a photograph or a drawing, turned, mirrored and recolored."""
    photograph = rng.random() < _PHOTOGRAPH_CHANCE
    picture = _crop(_photographs()[_pick(rng)], rng, side) if photograph else draw(rng, side)
    picture = np.rot90(picture, int(rng.integers(4)))
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    return _recolor(np.ascontiguousarray(picture), rng)


@functools.cache
def _photographs() -> list[Pixels]:
    return [load(photograph) for photograph in training_photographs()]


@functools.cache
def _shares() -> NDArray[np.float64]:
    """How often each photograph is picked, summed up."""
    weights = np.array([photograph.weight for photograph in training_photographs()])
    return np.cumsum(weights / weights.sum())


def _pick(rng: np.random.Generator) -> int:
    return int(np.searchsorted(_shares(), rng.random()).clip(0, len(_photographs()) - 1))


def _crop(photograph: Pixels, rng: np.random.Generator, side: int) -> Pixels:
    height, width = photograph.shape[:2]
    most = max(1.0, min(_MOST_ENLARGED, min(height, width) / side))
    extent = min(round(side * rng.uniform(1, most)) if rng.random() < 0.6 else side, height, width)
    top, left = rng.integers(height - extent + 1), rng.integers(width - extent + 1)
    crop = photograph[top : top + extent, left : left + extent]
    if extent == side:
        return crop
    kind = (Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)[rng.integers(3)]
    return np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize((side, side), kind))


def _recolor(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Half of the time: another tone curve, saturation, tint and order of channels."""
    if rng.random() < 0.5:
        return picture
    image = picture.astype(np.float32) / 255
    if rng.random() < 0.3:
        image = image[..., rng.permutation(3)]
    image = image ** float(np.exp(rng.uniform(-0.5, 0.5)))
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * np.float32(rng.uniform(0.3, 1.4))
    tint = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.35), 1.0)
    image = image * np.asarray(tint, dtype=np.float32) * np.float32(rng.uniform(0.8, 1.2))
    image += np.float32(rng.uniform(-0.08, 0.08))
    result: Pixels = (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return result
