"""Whole plans through the float32 kernel, against the golden float32 runs."""

import math

import numpy as np
import pytest
from safetensors.numpy import load_file

import solvers
from runtime.clock import Clock
from runtime.device import SamplerState
from runtime.host import HostKernels
from runtime.kernels import Tensor, tensor_from
from runtime.sampler import sample
from tests.paths import SAMPLER


class GoldenKernels(HostKernels):
    """With the golden draws, which differ from item to item."""

    def __init__(self, plan, draws):
        super().__init__(plan, noise=None)
        self._draws = iter(draws)

    def draw(self, out):
        out.copy_from(np.ascontiguousarray(next(self._draws)))


class Latents:
    def __init__(self):
        self.recorded = []

    def __call__(self, name, tensor):
        if name == "latents":
            self.recorded.append(np.array(memoryview(tensor)))


@pytest.fixture(scope="module", params=["small", "large"])
def golden(request):
    return load_file(SAMPLER / f"sampler_{request.param}.safetensors")


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 10, 15])
def test_walk_in_float32(golden, order, steps):
    plan = solvers.plan(steps=steps, order=order)
    x0_hat = golden["x0_hat"]
    shape = x0_hat.shape
    start = np.float32(plan.start[0]) * x0_hat + np.float32(plan.start[1]) * golden["noise_init"]
    state = SamplerState(
        latent=tensor_from(start),
        x0_hat=tensor_from(x0_hat),
        output=Tensor(shape),
        timestep=Tensor((1,)),
        predictions=(Tensor(shape), Tensor(shape), Tensor(shape)),
        noise=Tensor(shape),
        noise_posterior=Tensor(shape),
    )
    latent, output, timestep = (np.asarray(memoryview(t)) for t in (state.latent, state.output, state.timestep))

    def denoise():
        wave = np.float32(-0.35 * math.sin(timestep[0] / 100))
        output[...] = np.float32(0.6) * latent + wave * x0_hat + np.float32(0.25) * np.tanh(latent)

    latents = Latents()
    kernels = GoldenKernels(plan, golden["noise_steps"])
    sample(plan, kernels, state, [denoise], latents, lambda _done: None, Clock())
    key = f"o{order}/s{steps}/f32"
    if f"{key}/latents" in golden:
        found, expected = np.stack([start, *latents.recorded]), golden[f"{key}/latents"]
    else:
        found, expected = latent, golden[f"o{order}/s{steps}/f64/final"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
