"""Whether a checkpoint's own schedule tables agree with the settings. In: a checkpoint. Out: the bundle's `Schedule`.

The tables are not exported: `solvers` computes them in float64. What they tell is t1, which is trained in. The
reference's buffer called `lambdas` holds eta, the shifting sequence.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from engines.bundle import Schedule
from export.checkpoint import Checkpoint
from export.errors import ConfigError

RELEASED_T1 = 500
_TOLERANCE = 2e-6
"""The tables are float32."""


def eta_table(t1: int, timesteps: int) -> Tensor:
    """eta [timesteps] float64: half a cosine from 0.001 to 0.999 over t1 steps, then 1 (design: the mathematics)."""
    table = torch.ones(timesteps, dtype=torch.float64)
    table[:t1] = (1 - torch.cos(math.pi * torch.linspace(0.001, 0.999, t1, dtype=torch.float64))) / 2
    return table


def beta_table(schedule: Schedule) -> Tensor:
    """beta [timesteps] float64, "scaled linear"."""
    ends = math.sqrt(schedule.beta_start), math.sqrt(schedule.beta_end)
    return torch.linspace(*ends, schedule.train_timesteps, dtype=torch.float64) ** 2


def check_schedule(checkpoint: Checkpoint, schedule: Schedule, t1: int | None) -> Schedule:
    """The schedule with its t1: the asked one, else the checkpoint's, else the released 500.

    Raises:
        ConfigError: the tables in the checkpoint contradict the config or the asked t1, or t1 is out of range.
    """
    steps = schedule.train_timesteps
    if t1 is not None and not 2 <= t1 <= steps:
        raise ConfigError(f"--t1 is {t1}, expected 2 to {steps}; the released model has --t1 {RELEASED_T1}")
    if "betas" in checkpoint.keys:
        betas = checkpoint.tensor("betas").double()
        if betas.shape != (steps,) or (betas - beta_table(schedule)).abs().max() > _TOLERANCE:
            raise ConfigError(
                f"the checkpoint's noise schedule has {betas.numel()} betas from {betas[0]:.5f} to {betas[-1]:.5f}, "
                f"expected {steps} from {schedule.beta_start} to {schedule.beta_end}; give the --config that belongs "
                "to this checkpoint"
            )
    if "lambdas" not in checkpoint.keys:
        return dataclasses.replace(schedule, t1=t1 or RELEASED_T1)
    etas = checkpoint.tensor("lambdas").double()
    found = int((etas < 1).sum())
    if etas.shape != (steps,) or found < 2 or (etas - eta_table(found, steps)).abs().max() > _TOLERANCE:
        raise ConfigError(
            "the checkpoint's shifting sequence is not the cosine one of DoSSR; only that one is supported, give a "
            "released checkpoint"
        )
    if t1 is not None and t1 != found:
        raise ConfigError(
            f"--t1 is {t1}, the checkpoint was trained with {found}; leave --t1 out, or give --t1 {found}"
        )
    return dataclasses.replace(schedule, t1=found)
