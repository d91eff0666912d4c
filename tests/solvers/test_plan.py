"""Plans against the golden vectors, walked in double precision, and against an independent DDPM step."""

import math

import numpy as np
import pytest
from safetensors.numpy import load_file

import solvers
from tests.paths import SAMPLER

STEPS = (1, 2, 3, 4, 5, 7, 10, 15)
COEFFICIENTS = (0.6, -0.35, 0.25)
EXPECTED_FIVE_STEPS = {
    499: (0.000016, 0.589808, 0.062936, 0.757571),
    399: (0.167487, 0.403730, 0.256480, -0.000003, 0.625873),
    299: (0.284468, 0.158287, 0.547454, -0.056495, 0.000000, 0.461851),
    200: (0.284931, 0.005343, 0.856060, -0.164002, 0.000869, 0.292882),
    100: (0.006869, -0.000624, 1.757195, -0.798699, 0.035207, 0.029069),
}


@pytest.fixture(scope="module")
def schedule_golden():
    return load_file(SAMPLER / "schedule.safetensors")


@pytest.fixture(scope="module", params=["small", "large"])
def sampler_golden(request):
    return load_file(SAMPLER / f"sampler_{request.param}.safetensors")


def walk(plan, golden):
    """The golden files' analytic denoiser, all in double; every latent."""
    a, b, c = COEFFICIENTS
    x0_hat = golden["x0_hat"].astype(np.float64)
    x = plan.start[0] * x0_hat + plan.start[1] * golden["noise_init"].astype(np.float64)
    latents, predictions = [x], []
    for i, step in enumerate(plan.steps):
        eps = a * x + b * math.sin(step.timestep / 100) * x0_hat + c * np.tanh(x)
        predictions.insert(0, step.p_x * x + step.p_out * eps + step.p_hat * x0_hat)
        z = golden["noise_steps"][i].astype(np.float64)
        history = sum(weight * p for weight, p in zip(step.c_p, predictions, strict=False))
        x = step.c_x * x + step.c_hat * x0_hat + history + step.c_z * z
        latents.append(x)
    return np.stack(latents)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", STEPS)
def test_walk_in_double_matches_reference(sampler_golden, order, steps):
    latents = walk(solvers.plan(steps=steps, order=order), sampler_golden)
    key = f"o{order}/s{steps}/f64exact"
    if f"{key}/latents" in sampler_golden:
        np.testing.assert_allclose(latents, sampler_golden[f"{key}/latents"], rtol=0, atol=1e-12)
    else:
        np.testing.assert_allclose(latents[-1], sampler_golden[f"{key}/final"], rtol=0, atol=1e-12)


def test_tables_match_reference(schedule_golden):
    schedule = solvers.NoiseSchedule.build()
    for name in ("betas", "alphas_cumprod", "etas"):
        np.testing.assert_allclose(getattr(schedule, name), schedule_golden[f"full/{name}"], rtol=0, atol=1e-14)


@pytest.mark.parametrize("steps", [*STEPS, 20, 30, 50, 100, 499])
def test_timesteps_and_lambdas_match_reference(schedule_golden, steps):
    schedule = solvers.NoiseSchedule.build()
    timesteps = schedule_golden[f"s{steps}/timesteps"].tolist()
    plan = solvers.plan(steps=steps)
    assert [*plan.timesteps, 0] == timesteps[::-1]
    assert len(plan.steps) == steps
    lambdas = [schedule.lambda_(t) for t in timesteps]
    np.testing.assert_allclose(lambdas, schedule_golden[f"s{steps}/lambdas"], rtol=1e-9)
    np.testing.assert_allclose(
        [schedule.scale(t) for t in timesteps], schedule_golden[f"s{steps}/alphas_multi_one_minus_etas"], atol=1e-14
    )


def test_printed_table_of_five_steps():
    for step in solvers.plan("dos-sde", steps=5, order=3).steps:
        numbers = (step.c_x, step.c_hat, *step.c_p, step.c_z)
        assert numbers == pytest.approx(EXPECTED_FIVE_STEPS[int(step.timestep)], abs=5.1e-7)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_history_grows_to_the_order(order):
    plan = solvers.plan(steps=5, order=order)
    assert [len(step.c_p) for step in plan.steps] == [min(order, i + 1) for i in range(5)]


def test_without_shift_order_one_is_ddpm_ancestral_sampling():
    """Independent implementation: the posterior q(x_t | x_s, x0) of a variance-preserving chain (Ho et al. 2020)."""
    plan = solvers.plan(steps=50, order=1, t1=1000, shifting="none")
    abar = solvers.NoiseSchedule.build(t1=1000, shifting="none").alphas_cumprod
    for step, t in zip(plan.steps, [*plan.timesteps[1:], 0], strict=True):
        s = int(step.timestep)
        alpha_ts = abar[s] / abar[t]
        assert step.c_hat == 0.0
        assert step.c_x == pytest.approx(math.sqrt(alpha_ts) * (1 - abar[t]) / (1 - abar[s]), rel=1e-9)
        assert step.c_p[0] == pytest.approx(math.sqrt(abar[t]) * (1 - alpha_ts) / (1 - abar[s]), rel=1e-9)
        assert step.c_z == pytest.approx(math.sqrt((1 - abar[t]) / (1 - abar[s]) * (1 - alpha_ts)), rel=1e-9)


@pytest.mark.parametrize("t1", [333, 500, 667, 1000])
def test_every_shift_length_gives_finite_plans(t1):
    plan = solvers.plan(steps=7, order=3, t1=t1)
    assert plan.timesteps[0] == t1 - 1
    assert plan.t1 == t1
    for step in plan.steps:
        assert all(map(math.isfinite, (step.c_x, step.c_hat, *step.c_p, step.c_z, step.p_x, step.p_out)))


@pytest.mark.parametrize("prediction", ["x0-from-eps", "shifted-eps", "v"])
def test_prediction_types_recover_the_clean_latent(prediction):
    """Forward: x_t = alpha (eta x0_hat + (1 - eta) x0) + sigma eps; "x0-from-eps" knows no shift, nor does "v"."""
    rng = np.random.default_rng(0)
    x0, x0_hat, eps = rng.standard_normal((3, 100))
    schedule = solvers.NoiseSchedule.build()
    for step in solvers.plan(steps=5, prediction=prediction).steps:
        t = int(step.timestep)
        eta = schedule.eta(t) if prediction == "shifted-eps" else 0.0
        clean = eta * x0_hat + (1 - eta) * x0
        x = step.alpha * clean + step.sigma * eps
        output = step.alpha * eps - step.sigma * clean if prediction == "v" else eps
        recovered = step.p_x * x + step.p_out * output + step.p_hat * x0_hat
        tolerance = 1e-6 if prediction == "shifted-eps" else 1e-12  # 1 / (1 - eta) is 400,000 at t = 499
        np.testing.assert_allclose(recovered, x0, atol=tolerance)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"steps must be in 1\.\.499"),
        ({"steps": 500}, r"steps must be in 1\.\.499"),
        ({"steps": 5.0}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"order": 4}, "order must be 1, 2 or 3, not 4"),
        ({"order": 0}, "order must be 1, 2 or 3"),
        ({"order": True}, "order must be 1, 2 or 3"),
        ({"t1": 1}, r"t1 must be in 2\.\.1000"),
        ({"t1": 1001}, r"t1 must be in 2\.\.1000"),
        ({"t1": "500"}, "t1 must be a whole number"),
        ({"train_timesteps": 1}, "train_timesteps must be in"),
        ({"prediction": "x0"}, "prediction must be one of x0-from-eps, shifted-eps, v"),
        ({"shifting": "linear"}, "shifting must be one of cosine, none"),
        ({"beta_start": 0.5, "beta_end": 0.1}, "betas must satisfy"),
        ({"solver": "euler"}, "solver must be one of dos-sde"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(solvers.PlanError, match=message):
        solvers.plan(**settings)
