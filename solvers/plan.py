"""The `Plan`: a sampler as a table. In: a schedule and a solver's transitions. Out: rows that one loop can walk.

Each row is linear in its tensors, so no solver knows about tensors:

    p  = p_x x + p_out output + p_hat x0_hat
    x <- c_x x + c_hat x0_hat + c_p[0] p + c_p[1] p_prev + c_p[2] p_prev2 + c_z z
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from solvers.errors import PlanError
from solvers.schedule import NoiseSchedule


class Prediction(StrEnum):
    """What the network's output means."""

    X0_FROM_EPS = "x0-from-eps"
    SHIFTED_EPS = "shifted-eps"
    V = "v"


class DataPrediction(NamedTuple):
    """Coefficients of the data prediction p."""

    p_x: float
    p_out: float
    p_hat: float


class Transition(NamedTuple):
    """Coefficients that carry x from one timestep to the next; c_p newest first, 1 to 3 numbers."""

    c_x: float
    c_hat: float
    c_p: tuple[float, ...]
    c_z: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """One network call and the update after it. All float64."""

    timestep: float
    alpha: float
    sigma: float
    p_x: float
    p_out: float
    p_hat: float
    c_x: float
    c_hat: float
    c_p: tuple[float, ...]
    c_z: float

    @classmethod
    def join(cls, t: int, schedule: NoiseSchedule, data: DataPrediction, transition: Transition) -> Step:
        """The row of timestep t from its two halves."""
        return cls(
            timestep=float(t),
            alpha=schedule.alpha(t),
            sigma=schedule.sigma(t),
            **data._asdict(),
            **transition._asdict(),
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole sampling run."""

    solver: str
    order: int
    t1: int
    prediction: Prediction
    timesteps: tuple[int, ...]
    """The network calls, descending."""
    start: tuple[float, float]
    """(c_hat, c_z) of the initial latent c_hat x0_hat + c_z z."""
    steps: tuple[Step, ...]


def data_prediction(prediction: str, schedule: NoiseSchedule, t: int) -> DataPrediction:
    """p at timestep t.

    "x0-from-eps": (x - sigma eps) / alpha, what the released weights are trained on.
    "shifted-eps": ((x - sigma eps) / alpha - eta x0_hat) / (1 - eta), the paper's Eq. 29.
    "v": alpha x - sigma v.

    Raises:
        PlanError: the prediction type is none of these.
    """
    alpha, sigma, eta = schedule.alpha(t), schedule.sigma(t), schedule.eta(t)
    if prediction == Prediction.X0_FROM_EPS:
        return DataPrediction(1 / alpha, -sigma / alpha, 0.0)
    if prediction == Prediction.SHIFTED_EPS:
        return DataPrediction(1 / schedule.scale(t), -schedule.lambda_(t), -eta / (1 - eta))
    if prediction == Prediction.V:
        return DataPrediction(alpha, -sigma, 0.0)
    raise PlanError(f"prediction must be one of {', '.join(Prediction)}, not {prediction!r}")
