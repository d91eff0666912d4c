"""The one loop that walks any plan. In: a plan, the engine call, noise. Out: the final latent in `state.latent`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from engines.errors import NonFiniteError
from runtime.clock import Clock
from runtime.kernels import Tensor, solver_step, start
from runtime.noise import NoiseSource
from solvers import Plan


@dataclass(frozen=True, kw_only=True)
class SamplerState:
    """Every tensor of the loop, allocated before it: float32, latents [1, 4, H, W]."""

    latent: Tensor
    x0_hat: Tensor
    output: Tensor
    """What the network predicts."""
    timestep: Tensor
    """[1], read by the network."""
    predictions: tuple[Tensor, Tensor, Tensor]
    """Ring of data predictions."""
    noise: Tensor
    noise_posterior: Tensor


class Observer(Protocol):
    """Is shown the tensors as they are made."""

    def record(self, name: str, tensor: Tensor) -> None:
        """Called with the names of the golden files."""


def start_latent(
    plan: Plan,
    state: SamplerState,
    noise: NoiseSource,
    mean: Tensor,
    std: Tensor,
    observer: Observer,
    clock: Clock,
) -> None:
    """x0_hat = mean + std z' (the posterior is sampled), then x = c_hat x0_hat + c_z z.

    Raises:
        NonFiniteError: the encoder gave NaN or infinity.
    """
    instant = clock.now()
    noise.fill(state.noise_posterior)
    noise.fill(state.noise)
    instant = clock.done("noise", instant)
    c_hat, c_z = plan.start
    finite = start(state.latent, state.x0_hat, mean, std, state.noise_posterior, state.noise, c_hat, c_z)
    clock.done("start", instant)
    _check_finite(finite, "encode")
    observer.record("x0_hat", state.x0_hat)
    observer.record("latents", state.latent)


def sample(
    plan: Plan,
    state: SamplerState,
    denoise: Sequence[Callable[[], None]],
    noise: NoiseSource,
    observer: Observer,
    on_step: Callable[[int], None],
    clock: Clock,
) -> None:
    """Walks the plan from the start latent to timestep 0. Allocates nothing.

    Args:
        plan: the table of coefficients.
        state: `latent` holds the start, and the result afterwards.
        denoise: engine calls that read `latent` and `timestep` and write `output`, run one after the other.
        noise: drawn from once a step, the last one included.
        observer: is shown eps, pred_x0 and latents of each step.
        on_step: called with the number of steps done.
        clock: gets spans denoise, noise and solver of each step.

    Raises:
        NonFiniteError: a step gave NaN or infinity.
    """
    a, b, c = state.predictions
    rings = ((a, b, c), (c, a, b), (b, c, a))  # newest first: each step writes over the oldest
    for i, step in enumerate(plan.steps):
        ring = rings[i % 3]
        state.timestep.fill(step.timestep)
        instant = clock.now()
        for call in denoise:
            call()
        instant = clock.done("denoise", instant, i + 1)
        noise.fill(state.noise)
        instant = clock.done("noise", instant, i + 1)
        finite = solver_step(
            state.latent,
            state.output,
            state.x0_hat,
            ring,
            state.noise,
            step.p_x,
            step.p_out,
            step.p_hat,
            step.c_x,
            step.c_hat,
            step.c_p,
            step.c_z,
        )
        clock.done("solver", instant, i + 1)
        _check_finite(finite, f"denoise, step {i + 1} (timestep {step.timestep:g})")
        observer.record("eps", state.output)
        observer.record("pred_x0", ring[0])
        observer.record("latents", state.latent)
        on_step(i + 1)


def _check_finite(finite: bool, stage: str) -> None:
    if not finite:
        raise NonFiniteError(f"{stage} gave NaN or infinity; use a bundle of --precision fp32, or check the checkpoint")
