"""A whole restoration in PyTorch eager, to compare engines with. In: a `Reference`, a picture, a plan. Out: a picture.

It is what the runtime does, in torch: same padding, same order of draws, same coefficients, cast once to float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from engines.graphs import LOW_RES_MULTIPLE, UPSCALE
from export.reference import Reference
from solvers import Plan

BLUR_LEVELS = 5


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """The picture and the seconds of each stage."""

    image: Tensor
    """[1,3,4h,4w] float32, after the color fix, not clamped."""
    timings: dict[str, float]


def restore(reference: Reference, image: Tensor, plan: Plan, seed: int) -> Restoration:
    """Restores one picture with torch's own noise on the CPU and the wavelet color fix.

    Args:
        reference: the networks.
        image: [1,3,h,w] float32 in [0,1].
        plan: of `solvers.plan`.
        seed: for `torch.manual_seed`; the draws are the posterior's, the start's, then one a step.
    """
    with torch.inference_mode():
        return _restore(reference, image, plan, seed)


def _restore(reference: Reference, image: Tensor, plan: Plan, seed: int) -> Restoration:
    timings: dict[str, float] = {}
    height, width = image.shape[2:]
    generator = torch.Generator().manual_seed(seed)
    padded = pad(image)
    enlarged = _timed(timings, "preprocess", lambda: reference.preprocess(padded))
    mean, std = _timed(timings, "encode", lambda: reference.encode(enlarged))
    separate = reference.source.separate_condition
    condition = _timed(timings, "encode", lambda: reference.condition(enlarged)) if separate else mean

    def noise() -> Tensor:
        return torch.randn(mean.shape, generator=generator)

    def walk() -> Tensor:
        x0_hat = mean + std * noise()
        c_hat, c_z = plan.start
        latent = c_hat * x0_hat + c_z * noise()
        predictions: list[Tensor] = []
        for step in plan.steps:
            output = reference.denoise(latent, condition, step.timestep)
            predictions.insert(0, step.p_x * latent + step.p_out * output + step.p_hat * x0_hat)
            latent = step.c_x * latent + step.c_hat * x0_hat + step.c_z * noise()
            for c, p in zip(step.c_p, predictions, strict=False):
                latent = latent + c * p
        return latent

    latent = _timed(timings, "denoise", walk)
    decoded = _timed(timings, "decode", lambda: reference.decode(latent))
    fixed = _timed(timings, "color_fix", lambda: decoded + blur(enlarged - decoded))
    timings["total"] = sum(timings.values())
    return Restoration(image=fixed[:, :, : UPSCALE * height, : UPSCALE * width], timings=timings)


def pad(image: Tensor) -> Tensor:
    """[1,3,h,w] padded right and bottom to multiples of 16 by reflection; sides must be more than half of that."""
    height, width = image.shape[2:]
    bottom, right = (-side % LOW_RES_MULTIPLE for side in (height, width))
    return functional.pad(image, (0, right, 0, bottom), mode="reflect") if bottom or right else image


def blur(image: Tensor) -> Tensor:
    """Five levels of the 3x3 binomial filter, dilated by 1, 2, 4, 8, 16, edges repeated."""
    row = torch.tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row[None]).expand(image.shape[1], 1, 3, 3)
    for level in range(BLUR_LEVELS):
        dilation = 2**level
        padded = functional.pad(image, (dilation,) * 4, mode="replicate")
        image = functional.conv2d(padded, kernel, dilation=dilation, groups=image.shape[1])
    return image


_Made = TypeVar("_Made")


def _timed(timings: dict[str, float], stage: str, work: Callable[[], _Made]) -> _Made:
    begin = time.perf_counter()
    result = work()
    timings[stage] = timings.get(stage, 0.0) + time.perf_counter() - begin
    return result
