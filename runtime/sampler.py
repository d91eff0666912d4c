"""The one loop that walks any plan. In: a plan, kernels, the engine call. Out: the final latent in `state.latent`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runtime.clock import Clock
from runtime.device import Kernels, SamplerState
from runtime.kernels import Tensor
from solvers import Plan

Record = Callable[[str, Tensor], None]
"""Is shown the tensors as they are made, by the names of the golden files."""


def start_latent(
    kernels: Kernels, state: SamplerState, mean: Tensor, std: Tensor, record: Record, clock: Clock
) -> None:
    """x0_hat = mean + std z' (the posterior is sampled), then x = c_hat x0_hat + c_z z.

    Raises:
        GuardError: where the device works at once: the encoder gave NaN, infinity or values out of range.
    """
    instant = clock.now()
    kernels.draw(state.noise_posterior)
    kernels.draw(state.noise)
    instant = clock.done("noise", instant)
    kernels.start(state, mean, std)
    clock.done("start", instant)
    record("x0_hat", state.x0_hat)
    record("latents", state.latent)


def sample(
    plan: Plan,
    kernels: Kernels,
    state: SamplerState,
    denoise: Sequence[Callable[[], None]],
    record: Record,
    on_step: Callable[[int], None],
    clock: Clock,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Walks the plan from the start latent to timestep 0. Allocates nothing.

    Args:
        plan: the table of coefficients.
        kernels: of that plan; noise is drawn once a step, the last one included.
        state: `latent` holds the start, and the result afterwards.
        denoise: engine calls that read `latent` and `timestep` and write `output`, run one after the other.
        record: is shown eps, pred_x0 and latents of each step.
        on_step: called with the number of steps done.
        clock: gets spans denoise, noise and solver of each step.
        check: called before each engine call; what it raises ends the walk.

    Raises:
        GuardError: where the device works at once: a step gave NaN, infinity or values out of range.
    """
    a, b, c = state.predictions
    rings = ((a, b, c), (c, a, b), (b, c, a))  # newest first: each step writes over the oldest
    for i in range(len(plan.steps)):
        ring = rings[i % 3]
        kernels.set_timestep(state, i)
        instant = clock.now()
        for call in denoise:
            check()
            call()
        instant = clock.done("denoise", instant, i + 1)
        kernels.draw(state.noise)
        instant = clock.done("noise", instant, i + 1)
        kernels.step(state, ring, i)
        clock.done("solver", instant, i + 1)
        record("eps", state.output)
        record("pred_x0", ring[0])
        record("latents", state.latent)
        on_step(i + 1)
