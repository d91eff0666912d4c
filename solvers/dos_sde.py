"""DoS-SDE solver 1, 2 and 3. In: a schedule, timesteps, an order. Out: one `Transition` a step.

Source: DoSSR (NeurIPS 2024), Algorithms 1 to 3, with fresh noise z in the noise term (the paper prints x0_hat there).
Symbols are the paper's: s is the current timestep, t the next one, r the one before s and q the one before r.
"""

from __future__ import annotations

import math

from solvers.plan import Transition
from solvers.schedule import NoiseSchedule

ORDERS = (1, 2, 3)


def transitions(schedule: NoiseSchedule, timesteps: tuple[int, ...], order: int) -> tuple[Transition, ...]:
    """The transitions between consecutive timesteps (descending, one more than there are steps).

    The first has no history and is of order 1, the second of order 2 at most.
    """
    return tuple(
        _transition(schedule, timesteps[max(0, i + 1 - order) : i + 1][::-1], timesteps[i + 1])
        for i in range(len(timesteps) - 1)
    )


def _transition(schedule: NoiseSchedule, history: tuple[int, ...], t: int) -> Transition:
    """From s = history[0] to t, with as many orders as history has timesteps (newest first)."""
    s = history[0]
    A_t, A_s = schedule.scale(t), schedule.scale(s)
    eta_t, eta_s = schedule.eta(t), schedule.eta(s)
    l_t = schedule.lambda_(t)
    lambdas = [schedule.lambda_(point) for point in history]
    l_s = lambdas[0]
    ratio2 = (l_t / l_s) ** 2

    c_p = [0.0] * len(history)
    c_p[0] = A_t * (1 - ratio2)
    if len(history) >= 2:
        # D1 = (p_s - p_r) / (l_s - l_r)
        d1 = -A_t * (l_t - l_s) ** 2 / l_s / (l_s - lambdas[1])
        c_p[0] += d1
        c_p[1] -= d1
    if len(history) == 3:
        # D2 = 2 (D1_s - D1_r) / (l_s - l_q)
        l_r, l_q = lambdas[1:]
        d2 = A_t * ((l_s - 3 * l_t) * (l_s - l_t) / 2 - l_t**2 * math.log(l_t / l_s)) * 2 / (l_s - l_q)
        c_p[0] += d2 / (l_s - l_r)
        c_p[1] -= d2 / (l_s - l_r) + d2 / (l_r - l_q)
        c_p[2] += d2 / (l_r - l_q)

    return Transition(
        c_x=A_t / A_s * ratio2,
        c_hat=A_t * (eta_t / (1 - eta_t) - eta_s / (1 - eta_s) * ratio2),
        c_p=tuple(c_p),
        c_z=A_t * math.sqrt(l_t**2 - l_t**4 / l_s**2),
    )
