"""Inputs for tracing and for verification. In: a graph's spec and sizes. Out: random arrays of the right ranges."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engines.graphs import GraphSpec, TensorSpec, resolve_shape
from export.figures import Array

CONTROL_STD = 0.5
"""Of the random controls that a UNet graph is verified with."""


def sizes(batch: int, height: int, width: int) -> dict[str, int]:
    """The axes' sizes at a latent of height x width."""
    return {"B": batch, "H": height, "W": width, "h": 2 * height, "w": 2 * width}


def random_inputs(
    spec: GraphSpec, axis_sizes: Mapping[str, int], *, timestep: float = 499.0, seed: int = 0
) -> dict[str, Array]:
    """float32 inputs by name: images uniform in [0,1], latents normal, `timestep` and control_scale 1 as they are."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return {tensor.name: _random(tensor, axis_sizes, timestep, generator) for tensor in spec.inputs}


def _random(spec: TensorSpec, axis_sizes: Mapping[str, int], timestep: float, generator: np.random.Generator) -> Array:
    shape = resolve_shape(spec.shape, axis_sizes)
    if spec.name == "timestep":
        return np.full(shape, timestep, np.float32)
    if spec.name == "control_scale":
        return np.ones(shape, np.float32)
    if spec.name == "image":
        return generator.random(shape, np.float32)
    noise = generator.standard_normal(shape, np.float32)
    return noise * np.float32(CONTROL_STD) if spec.name.startswith("control_") else noise
