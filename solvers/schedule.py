"""Noise schedule, shifting sequence and timestep selection, all float64. In: settings. Out: numbers by timestep.

Source: DoSSR (NeurIPS 2024), Eq. 2 to 4, in the form of the released weights.
"""

from __future__ import annotations

import itertools
import math
import operator
from dataclasses import dataclass
from enum import StrEnum

from solvers.errors import PlanError


class Shifting(StrEnum):
    """How eta grows from the high-resolution to the low-resolution domain."""

    COSINE = "cosine"
    NONE = "none"


def linspace(start: float, end: float, count: int) -> list[float]:
    """`count` evenly spaced float64 numbers, both ends included."""
    if count == 1:
        return [start]
    step = (end - start) / (count - 1)
    return [start + i * step for i in range(count - 1)] + [end]


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """x_t = alpha_t (eta_t x0_hat + (1 - eta_t) x0) + sigma_t eps, for t = 0 .. T-1.

    Every table is indexed by the training timestep.
    """

    betas: tuple[float, ...]
    alphas_cumprod: tuple[float, ...]
    etas: tuple[float, ...]

    @classmethod
    def build(
        cls,
        *,
        t1: int = 500,
        shifting: str = "cosine",
        train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
    ) -> NoiseSchedule:
        """The scaled-linear schedule with a shifting sequence that reaches (almost) 1 at t1 - 1.

        Raises:
            PlanError: T outside 2..100000, t1 outside 2..T, betas not 0 < start <= end < 1, unknown shifting.
        """
        if not 2 <= _integer("train_timesteps", train_timesteps) <= 100_000:
            raise PlanError(f"train_timesteps must be in 2..100000, not {train_timesteps}")
        if not 2 <= _integer("t1", t1) <= train_timesteps:
            raise PlanError(f"t1 must be in 2..{train_timesteps}, not {t1}")
        if not 0 < beta_start <= beta_end < 1:
            raise PlanError(f"betas must satisfy 0 < start <= end < 1, not {beta_start} and {beta_end}")
        if shifting not in list(Shifting):
            raise PlanError(f"shifting must be one of {', '.join(Shifting)}, not {shifting!r}")
        betas = tuple(b * b for b in linspace(math.sqrt(beta_start), math.sqrt(beta_end), train_timesteps))
        etas = [0.0] * train_timesteps
        if shifting == Shifting.COSINE:
            shifted = [(1 - math.cos(math.pi * k)) / 2 for k in linspace(0.001, 0.999, t1)]
            etas = shifted + [1.0] * (train_timesteps - t1)
        return cls(
            betas=betas,
            alphas_cumprod=tuple(itertools.accumulate((1 - b for b in betas), operator.mul)),
            etas=tuple(etas),
        )

    def alpha(self, t: int) -> float:
        """sqrt of the cumulative product of 1 - beta."""
        return math.sqrt(self.alphas_cumprod[t])

    def sigma(self, t: int) -> float:
        """Standard deviation of the noise."""
        return math.sqrt(1 - self.alphas_cumprod[t])

    def eta(self, t: int) -> float:
        """Share of the low-resolution latent x0_hat."""
        return self.etas[t]

    def scale(self, t: int) -> float:
        """A = alpha (1 - eta), the share of the clean latent."""
        return self.alpha(t) * (1 - self.etas[t])

    def lambda_(self, t: int) -> float:
        """sigma / A, the noise-to-signal ratio that the solver integrates over."""
        return self.sigma(t) / self.scale(t)


def select_timesteps(steps: int, t1: int = 500) -> tuple[int, ...]:
    """steps + 1 timesteps, descending from t1 - 1 to 0; the network is called at all but the last.

    They come from an accumulated float64 sum rounded half to even, as in the released code (a plain linspace differs
    at 20, 24, 26 ... steps).

    Raises:
        PlanError: steps outside 1..t1-1.
    """
    if not 1 <= _integer("steps", steps) <= t1 - 1:
        raise PlanError(f"steps must be in 1..{t1 - 1} for t1 = {t1}, not {steps}")
    points = itertools.accumulate(itertools.repeat((t1 - 1) / steps, steps), initial=0.0)
    return tuple(round(point) for point in points)[::-1]


def _integer(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlanError(f"{name} must be a whole number, not {value!r}")
    return value
