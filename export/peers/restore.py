"""A whole restoration over anyone's networks. In: `Networks`, a picture, a plan. Out: a picture, and seconds by stage.

It is what the runtime does, in torch: same padding, same order of draws, same coefficients, cast once to float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from engines import graphs
from engines.graphs import LOW_RES_MULTIPLE, UPSCALE
from export.peers.networks import Networks
from solvers import Plan

BLUR_LEVELS = 5
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """The picture and the seconds of each stage."""

    image: Tensor
    """[1,3,4h,4w] float32, after the color fix, not clamped."""
    timings: dict[str, float]
    """preprocess, encode, denoise (with the solver), decode, color_fix, and `total`, their sum."""


@torch.inference_mode()
def restore(networks: Networks, image: Tensor, plan: Plan, seed: int) -> Restoration:
    """Restores one picture with torch's own noise on the CPU and the wavelet color fix.

    Args:
        networks: of `export.peers.networks`.
        image: [1,3,h,w] float32 in [0,1], on the networks' device.
        plan: of `solvers.plan`.
        seed: for `torch.manual_seed`; the draws are the posterior's, the start's, then one a step.
    """
    clock = _Clock(networks.device)
    height, width = image.shape[2:]
    generator = torch.Generator().manual_seed(seed)

    def encode() -> tuple[Tensor, Tensor, Tensor]:
        mean, std = networks.call(graphs.ENCODE.name, enlarged)
        separate = networks.has(graphs.CONDITION.name)
        return mean, std, networks.call(graphs.CONDITION.name, enlarged)[0] if separate else mean

    def noise() -> Tensor:
        return torch.randn(mean.shape, generator=generator).to(mean.device)

    def walk() -> Tensor:
        x0_hat = mean + std * noise()
        c_hat, c_z = plan.start
        latent = c_hat * x0_hat + c_z * noise()
        predictions: list[Tensor] = []
        scale = torch.ones(1, device=mean.device)
        for step in plan.steps:
            timestep = torch.full((1,), step.timestep, device=mean.device)
            (output,) = networks.call(graphs.DENOISE.name, latent, condition, timestep, scale)
            predictions.insert(0, step.p_x * latent + step.p_out * output + step.p_hat * x0_hat)
            latent = step.c_x * latent + step.c_hat * x0_hat + step.c_z * noise()
            for c, p in zip(step.c_p, predictions, strict=False):
                latent = latent + c * p
        return latent

    enlarged = clock.time("preprocess", lambda: networks.call(graphs.PREPROCESS.name, pad(image))[0])
    mean, std, condition = clock.time("encode", encode)
    latent = clock.time("denoise", walk)
    decoded = clock.time("decode", lambda: networks.call(graphs.DECODE.name, latent)[0])
    fixed = clock.time("color_fix", lambda: decoded + blur(enlarged - decoded))
    timings = clock.timings | {"total": sum(clock.timings.values())}
    return Restoration(image=fixed[:, :, : UPSCALE * height, : UPSCALE * width], timings=timings)


def pad(image: Tensor) -> Tensor:
    """[1,3,h,w] padded right and bottom to multiples of 16 by reflection; sides must be more than half of that."""
    height, width = image.shape[2:]
    bottom, right = (-side % LOW_RES_MULTIPLE for side in (height, width))
    return functional.pad(image, (0, right, 0, bottom), mode="reflect") if bottom or right else image


def blur(image: Tensor) -> Tensor:
    """Five levels of the 3x3 binomial filter, dilated by 1, 2, 4, 8, 16, edges repeated."""
    row = torch.tensor([0.25, 0.5, 0.25], device=image.device)
    kernel = (row[:, None] * row[None]).expand(image.shape[1], 1, 3, 3)
    for level in range(BLUR_LEVELS):
        dilation = 2**level
        padded = functional.pad(image, (dilation,) * 4, mode="replicate")
        image = functional.conv2d(padded, kernel, dilation=dilation, groups=image.shape[1])
    return image


@dataclass(frozen=True)
class _Clock:
    """Seconds by stage; a GPU is waited for at each stage's end."""

    device: torch.device
    timings: dict[str, float] = field(default_factory=dict)

    def time(self, stage: str, work: Callable[[], _Made]) -> _Made:
        begin = time.perf_counter()
        result = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.timings[stage] = time.perf_counter() - begin
        return result
