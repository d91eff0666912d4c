"""The one loop that walks any plan. In: a plan, the engine call, noise. Out: the final latent in `state.latent`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.clock import Clock
from runtime.guard import check_start, check_step
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
        GuardError: the encoder gave NaN, infinity or values out of range.
    """
    instant = clock.now()
    noise.fill(state.noise_posterior)
    noise.fill(state.noise)
    instant = clock.done("noise", instant)
    c_hat, c_z = plan.start
    largest = start(state.latent, state.x0_hat, mean, std, state.noise_posterior, state.noise, c_hat, c_z)
    clock.done("start", instant)
    check_start(largest)
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
        GuardError: a step gave NaN, infinity or values out of range.
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
        largest = solver_step(
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
        check_step(largest, i + 1, step)
        observer.record("eps", state.output)
        observer.record("pred_x0", ring[0])
        observer.record("latents", state.latent)
        on_step(i + 1)
