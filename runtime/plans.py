"""The plan that a bundle's model is sampled with. In: a manifest and settings. Out: a `solvers.Plan`."""

from __future__ import annotations

import solvers
from engines.bundle import Manifest
from engines.errors import SettingsError


def bundle_plan(manifest: Manifest, steps: int | None, order: int | None) -> solvers.Plan:
    """The plan of that many steps and that order; None: the bundle's default.

    Raises:
        SettingsError: steps or order outside their range.
    """
    default, schedule = manifest.plan, manifest.schedule
    try:
        return solvers.plan(
            default.solver,
            steps=default.steps if steps is None else steps,
            order=default.order if order is None else order,
            prediction=manifest.prediction,
            t1=schedule.t1,
            shifting=schedule.shifting,
            train_timesteps=schedule.train_timesteps,
            beta_start=schedule.beta_start,
            beta_end=schedule.beta_end,
        )
    except solvers.PlanError as error:
        raise SettingsError(str(error)) from error
