"""Inputs for tracing and for verification. In: a graph's spec and sizes. Out: random tensors of the right ranges."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from engines.graphs import GraphSpec, TensorSpec, resolve_shape

CONTROL_STD = 0.5
"""Of the random controls that a UNet graph is verified with."""


def sizes(batch: int, height: int, width: int) -> dict[str, int]:
    """The axes' sizes at a latent of height x width."""
    return {"B": batch, "H": height, "W": width, "h": 2 * height, "w": 2 * width}


def random_inputs(
    spec: GraphSpec, axis_sizes: Mapping[str, int], *, timestep: float = 499.0, seed: int = 0
) -> dict[str, Tensor]:
    """float32 inputs by name: images uniform in [0,1], latents normal, `timestep` and control_scale 1 as they are."""
    generator = torch.Generator().manual_seed(seed)
    return {tensor.name: _random(tensor, axis_sizes, timestep, generator) for tensor in spec.inputs}


def _random(spec: TensorSpec, axis_sizes: Mapping[str, int], timestep: float, generator: torch.Generator) -> Tensor:
    shape = resolve_shape(spec.shape, axis_sizes)
    if spec.name == "timestep":
        return torch.full(shape, timestep)
    if spec.name == "control_scale":
        return torch.ones(shape)
    if spec.name == "image":
        return torch.rand(shape, generator=generator)
    noise = torch.randn(shape, generator=generator)
    return noise * CONTROL_STD if spec.name.startswith("control_") else noise
