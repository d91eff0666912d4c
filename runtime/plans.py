"""The plan that a bundle's model is sampled with. In: a manifest and settings. Out: a `solvers.Plan`."""

from __future__ import annotations

from collections.abc import Iterable

import solvers
from engines.bundle import DefaultPlan, Manifest, Schedule
from engines.errors import SettingsError


def bundle_plan(manifest: Manifest, steps: int | None, order: int | None) -> solvers.Plan:
    """The plan of that many steps and that order; None: the bundle's default.

    Raises:
        SettingsError: steps or order outside their range, or timesteps that the bundle has not baked.
    """
    plan = plan_of(manifest.schedule, manifest.prediction, manifest.plan, steps, order)
    check_baked(manifest, plan)
    return plan


def plan_of(
    schedule: Schedule, prediction: str, default: DefaultPlan, steps: int | None, order: int | None
) -> solvers.Plan:
    """The plan for a model that was trained on that schedule to predict that; steps and order None: the default's.

    Raises:
        SettingsError: steps or order outside their range.
    """
    try:
        return solvers.plan(
            default.solver,
            steps=default.steps if steps is None else steps,
            order=default.order if order is None else order,
            prediction=prediction,
            t1=schedule.t1,
            shifting=schedule.shifting,
            train_timesteps=schedule.train_timesteps,
            beta_start=schedule.beta_start,
            beta_end=schedule.beta_end,
        )
    except solvers.PlanError as error:
        raise SettingsError(str(error)) from error


def check_baked(manifest: Manifest, plan: solvers.Plan) -> None:
    """Whether the bundle's network takes the plan's timesteps.

    Raises:
        SettingsError: one is not among the baked ones.
    """
    baked = manifest.baked_timesteps
    if baked and (missing := sorted(set(map(float, plan.timesteps)) - set(baked), reverse=True)):
        raise SettingsError(
            f"the plan of {len(plan.timesteps)} steps calls the network at {_list(missing)}, the bundle has "
            f"{_list(baked)} baked; take its number of steps, or export with --bake-steps {len(plan.timesteps)} or "
            "without it"
        )


def _list(timesteps: Iterable[float]) -> str:
    return ", ".join(f"{timestep:g}" for timestep in timesteps)


def chosen_plan(
    manifest: Manifest, steps: int | None, order: int | None, plan: solvers.Plan | None, force: bool
) -> solvers.Plan:
    """The bundle's plan of so many steps, or the caller's own; `force` takes one that the bundle was not trained for.

    Raises:
        SettingsError: out of range, both are given, or the plan does not fit the bundle.
    """
    if plan is None:
        return bundle_plan(manifest, steps, order)
    if steps is not None or order is not None:
        raise SettingsError("steps and order belong to the plan; give either a plan or them")
    if not isinstance(plan, solvers.Plan):
        raise SettingsError(f"plan must be what solvers.plan(...) gives, not {plan!r}")
    trained = (manifest.schedule.t1, manifest.prediction)
    if (plan.t1, plan.prediction) != trained and not force:
        raise SettingsError(
            f"the plan has t1 = {plan.t1} and predicts {plan.prediction}, the bundle was trained with t1 = "
            f"{trained[0]} and {trained[1]}; make the plan so, or pass force_plan=True"
        )
    check_baked(manifest, plan)
    return plan
