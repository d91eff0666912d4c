"""Schedules and solvers of DoSSR as tables of float64 numbers. In: settings. Out: a `Plan`. Standard library only.

    plan = solvers.plan("dos-sde", steps=5, order=3)

A new solver is one file with a function of `dos_sde.coefficients`' form, and one line in `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from solvers import dos_sde
from solvers.errors import PlanError
from solvers.plan import Plan, Prediction, Step, Transition, data_prediction
from solvers.schedule import NoiseSchedule, Shifting, select_timesteps

__all__ = ["SOLVERS", "NoiseSchedule", "Plan", "PlanError", "Prediction", "Shifting", "Step", "plan"]

SOLVERS: dict[str, Callable[[NoiseSchedule, tuple[int, ...], int], tuple[Transition, ...]]] = {
    "dos-sde": dos_sde.transitions,
}


def plan(
    solver: str = "dos-sde",
    *,
    steps: int = 5,
    order: int = 3,
    t1: int = 500,
    prediction: str = "x0-from-eps",
    shifting: str = "cosine",
    train_timesteps: int = 1000,
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
) -> Plan:
    """The numbers of a whole sampling run.

    Args:
        solver: a name in `SOLVERS`.
        steps: network calls, 1 to t1 - 1.
        order: of the solver, 1 to 3; the first step is order 1 and the second at most order 2 in any case.
        t1: where the domain shift begins, in training timesteps (T/3, T/2, 2T/3 or T in the paper); trained in.
        prediction: what the network predicts: "x0-from-eps" (released weights), "shifted-eps" (the paper's Eq. 29)
            or "v".
        shifting: "cosine" (released) or "none" (eta = 0: an ordinary diffusion sampler).
        train_timesteps: T.
        beta_start, beta_end: ends of the scaled-linear noise schedule.

    Raises:
        PlanError: a value is outside its range; the text says which and what is allowed.
    """
    if solver not in SOLVERS:
        raise PlanError(f"solver must be one of {', '.join(SOLVERS)}, not {solver!r}")
    if type(order) is not int or order not in dos_sde.ORDERS:
        raise PlanError(f"order must be 1, 2 or 3, not {order!r}")
    schedule = NoiseSchedule.build(
        t1=t1, shifting=shifting, train_timesteps=train_timesteps, beta_start=beta_start, beta_end=beta_end
    )
    points = select_timesteps(steps, t1)
    predictions = [data_prediction(prediction, schedule, t) for t in points[:-1]]
    transitions = SOLVERS[solver](schedule, points, order)
    return Plan(
        solver=solver,
        order=order,
        t1=t1,
        prediction=Prediction(prediction),
        timesteps=points[:-1],
        start=(schedule.alpha(points[0]), schedule.sigma(points[0])),
        steps=tuple(
            Step.join(t, schedule, p, transition)
            for t, p, transition in zip(points[:-1], predictions, transitions, strict=True)
        ),
    )
