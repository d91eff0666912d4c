"""start and solver_step: against the reference's runs, against NumPy in double, and their checks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

import solvers
from runtime import _native
from runtime._native import Tensor, solver_step, start, tensor_from
from tests.paths import SAMPLER

Floats = npt.NDArray[np.float32]
INDEX = json.loads((SAMPLER / "index.json").read_text())
SMALL_RUNS = [run for run in INDEX["runs"] if run["shape"] == "small"]


@pytest.fixture(params=[True, False], ids=["simd", "baseline"])
def simd(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Runs a test on both code paths."""
    _native._set_simd(request.param)
    yield request.param
    _native._set_simd(True)


def random(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def largest(*tensors: Tensor) -> float:
    """What the kernels return: NumPy's maximum gives NaN where there is one."""
    return max((float(np.abs(np.asarray(tensor)).max()) for tensor in tensors if tensor.size), default=0.0)


def start_all(tensors: list[Tensor], c_hat: float = 1.0, c_z: float = 1.0) -> float:
    x, x0_hat, mean, std, noise_posterior, noise_start = tensors
    return start(x, x0_hat, mean, std, noise_posterior, noise_start, c_hat, c_z)


@pytest.fixture(scope="module")
def golden() -> dict[str, npt.NDArray[Any]]:
    return dict(load_file(SAMPLER / "sampler_small.safetensors"))


@pytest.mark.parametrize("run", SMALL_RUNS, ids=lambda run: str(run["key"]))
def test_reference_runs(run: dict[str, Any], golden: dict[str, npt.NDArray[Any]]) -> None:
    """Every latent of a run within 1e-5; the reference's own float32 differs from its float64 by up to 1.6e-6."""
    plan = solvers.plan("dos-sde", steps=run["steps"], order=run["order"])
    expected = golden[f"{run['key']}/f32/latents"]
    a, b, c = (INDEX["coef"][name] for name in "abc")
    shape = golden["x0_hat"].shape
    x, x0_hat, output = Tensor(shape), Tensor(shape), Tensor(shape)
    ring = [Tensor(shape) for _ in range(3)]

    zeros = Tensor(shape)
    seen = start(x, x0_hat, tensor_from(golden["x0_hat"]), zeros, zeros, tensor_from(golden["noise_init"]), *plan.start)
    assert seen == largest(x, x0_hat)
    np.testing.assert_array_equal(np.asarray(x0_hat), golden["x0_hat"])
    np.testing.assert_allclose(np.asarray(x), expected[0], rtol=0, atol=1e-5)
    for i, step in enumerate(plan.steps):
        latent = np.asarray(x)
        eps = a * latent + (b * np.sin(step.timestep / 100)) * golden["x0_hat"] + c * np.tanh(latent)
        output.copy_from(eps.astype(np.float32))
        ring = [ring[-1], *ring[:-1]]
        seen = solver_step(
            x, output, x0_hat, ring, tensor_from(golden["noise_steps"][i]), step.p_x, step.p_out, step.p_hat,
            step.c_x, step.c_hat, step.c_p, step.c_z,
        )  # fmt: skip
        assert seen == largest(x, ring[0])
        np.testing.assert_allclose(np.asarray(x), expected[i + 1], rtol=0, atol=1e-5, err_msg=f"step {i}")
        if f"{run['key']}/f32/pred_x0" in golden:
            np.testing.assert_allclose(np.asarray(ring[0]), golden[f"{run['key']}/f32/pred_x0"][i], rtol=0, atol=4e-5)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 4, 8, 8), (2, 4, 97, 173)])
def test_start_in_double(shape: tuple[int, ...], simd: bool) -> None:
    mean, std, posterior, noise = (random(*shape, seed=i) for i in range(4))
    x, x0_hat = Tensor(shape), Tensor(shape)
    seen = start_all([x, x0_hat, *map(tensor_from, (mean, std, posterior, noise))], 0.3, 0.9)
    assert seen == largest(x, x0_hat)
    sample = mean.astype(np.float64) + std.astype(np.float64) * posterior
    np.testing.assert_allclose(np.asarray(x0_hat), sample, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.asarray(x), 0.3 * sample + 0.9 * noise, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (0, 4), (5,), (1, 4, 8, 9), (2, 4, 97, 173)])
@pytest.mark.parametrize(("order", "noisy"), list(itertools.product((1, 2, 3), (True, False))))
def test_step_in_double(shape: tuple[int, ...], order: int, noisy: bool, simd: bool) -> None:
    arrays = [random(*shape, seed=i) for i in range(7)]
    x, output, x0_hat, noise = map(tensor_from, arrays[:4])
    predictions = [tensor_from(array) for array in arrays[4:]]
    c_p, c_z = (0.5, -0.25, 0.125)[:order], 0.75 if noisy else 0.0
    noise_or_none = noise if noisy else None
    seen = solver_step(x, output, x0_hat, predictions, noise_or_none, 1.5, -0.5, 0.1, 0.2, 0.3, c_p, c_z)
    assert seen == largest(x, predictions[0])
    doubles = [array.astype(np.float64) for array in arrays]
    p = 1.5 * doubles[0] - 0.5 * doubles[1] + 0.1 * doubles[2]
    expected = 0.2 * doubles[0] + 0.3 * doubles[2] + c_z * doubles[3]
    for weight, prediction in zip(c_p, [p, *doubles[5:]], strict=False):
        expected = expected + weight * prediction
    np.testing.assert_allclose(np.asarray(predictions[0]), p, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.asarray(x), expected, rtol=1e-6, atol=1e-6)
    for tensor, array in zip(predictions[1:], arrays[5:], strict=True):
        np.testing.assert_array_equal(np.asarray(tensor), array)


def test_both_paths_and_any_threads_give_the_same_bits() -> None:
    shape, results = (2, 4, 200, 131), set()
    try:
        for simd, threads in itertools.product((True, False), (1, 2, 5)):
            _native._set_simd(simd)
            _native.set_num_threads(threads)
            x, output, x0_hat, noise, *predictions = (tensor_from(random(*shape, seed=i)) for i in range(7))
            seen = [solver_step(x, output, x0_hat, predictions, noise, 1.1, -0.7, 0, 0.1, 0.2, [0.3, 0.4, 0.5], 0.6)]
            started, sample = Tensor(shape), Tensor(shape)
            seen.append(start(started, sample, x, output, x0_hat, noise, 0.1, 0.2))
            results.add(b"".join(map(bytes, (x, predictions[0], started, sample))) + str(seen).encode())
    finally:
        _native._set_simd(True)
        _native.set_num_threads(2)
    assert len(results) == 1


PLACES = [(1, 0), (7, 3), (7, 6), (70002, 0), (70002, 35001), (70002, 65535), (70002, 65536), (70002, 70001)]
"""(elements, where): first, last, in a remainder of the vectors, and on both sides of a border between threads."""
EXTREMES = [(np.nan, np.nan), (np.inf, np.inf), (-np.inf, np.inf), (-3e38, 3e38), (448.0, 448.0), (-1e-3, 1e-3)]
"""(value, what is to be seen)."""


@pytest.mark.parametrize(("value", "seen"), EXTREMES)
@pytest.mark.parametrize(("count", "place"), PLACES)
def test_one_value_is_seen_wherever_it_is(count: int, place: int, value: float, seen: float, simd: bool) -> None:
    odd = np.zeros(count, np.float32)
    odd[place] = value
    extreme, expected = tensor_from(odd), np.float32(seen)
    x, other, prediction = Tensor((count,)), Tensor((count,)), Tensor((count,))
    step = (x, other, other, [prediction])
    np.testing.assert_equal(np.float32(solver_step(*step, extreme, 0, 0, 0, 0, 0, [0], 1)), expected)
    x.fill(0)
    # The noise is not read when its coefficient is 0, and 0 * infinity would be NaN.
    assert solver_step(*step, extreme, 1, 1, 1, 1, 1, [1], 0) == 0
    # What the prediction and x0_hat hold is seen as well, where x takes up little of it.
    with_output = solver_step(x, extreme, other, [prediction], None, 0, 1, 0, 0, 0, [1e-3], 0)
    np.testing.assert_equal(np.float32(with_output), expected)
    np.testing.assert_equal(np.float32(start(x, prediction, other, other, other, extreme, 1, 1)), expected)
    np.testing.assert_equal(np.float32(start(x, prediction, extreme, other, other, other, 1e-3, 1)), expected)


@pytest.mark.parametrize("order", [2, 3])
def test_what_history_holds_is_seen(order: int, simd: bool) -> None:
    x, other, bad = Tensor((9,)), Tensor((9,)), Tensor((9,))
    bad.fill(float("nan"))
    ring = [Tensor((9,)), *([other] * (order - 2)), bad]
    assert np.isnan(solver_step(x, other, other, ring, None, 1, 1, 1, 1, 1, [1.0] * order, 0))


def test_nan_is_more_than_infinity(simd: bool) -> None:
    for values in ([np.nan, np.inf], [np.inf, np.nan], [np.inf, -np.nan, 1]):
        x, other = Tensor((len(values),)), Tensor((len(values),))
        noise = tensor_from(np.array(values, np.float32))
        assert np.isnan(solver_step(x, other, other, [Tensor(x.shape)], noise, 0, 0, 0, 0, 0, [0], 1))


def test_overflow_is_seen() -> None:
    x, other = Tensor((5,)), Tensor((5,))
    x.fill(3e38)
    assert solver_step(x, other, other, [Tensor((5,))], None, 1, 0, 0, 2, 0, [0], 0) == np.inf


def test_nothing_is_seen_of_no_values() -> None:
    empty = Tensor((0, 4))
    assert solver_step(empty, empty, empty, [Tensor((0, 4))], None, 1, 1, 1, 1, 1, [1], 0) == 0
    assert start_all([Tensor((0, 4)) for _ in range(6)]) == 0


def step_arguments() -> dict[str, Any]:
    tensors = {name: Tensor((2, 3)) for name in ("x", "output", "x0_hat", "noise")}
    numbers = dict.fromkeys(("p_x", "p_out", "p_hat", "c_x", "c_hat", "c_z"), 1.0)
    return {**tensors, **numbers, "predictions": [Tensor((2, 3)) for _ in range(3)], "c_p": [1.0, 1.0, 1.0]}


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"x": Tensor((2, 3), "float64")}, TypeError, "x: expected dtype float32, got float64"),
        ({"output": Tensor((3, 2))}, ValueError, r"output: expected float32 \[2, 3\], got float32 \[3, 2\]"),
        ({"x0_hat": Tensor((2, 3), "uint8")}, TypeError, "x0_hat"),
        ({"noise": Tensor((6,))}, ValueError, "noise"),
        ({"noise": None}, ValueError, "noise: .*c_z"),
        ({"predictions": []}, ValueError, "c_p: .*3 and 0"),
        ({"predictions": [Tensor((2, 3)), None, Tensor((2, 3))]}, TypeError, r"predictions\[1\]: .*NoneType"),
        ({"predictions": [Tensor((2, 3)), Tensor((2, 3)), Tensor((1,))]}, ValueError, r"predictions\[2\]"),
        ({"predictions": None}, TypeError, "predictions: expected a sequence, got NoneType"),
        ({"predictions": "abc"}, TypeError, r"predictions\[0\]: expected a Tensor, got str"),
        ({"predictions": Tensor((3, 2, 3))}, TypeError, "predictions: expected a sequence"),
        ({"c_p": 1.0}, TypeError, "c_p: expected a sequence"),
        ({"c_p": [1.0, "1"]}, TypeError, r"c_p\[1\]: expected a number, got str"),
        ({"c_p": []}, ValueError, "c_p"),
        ({"c_p": [1.0] * 4}, ValueError, "c_p"),
        ({"c_p": [float("nan")]}, ValueError, r"c_p\[0\]: .*finite"),
        ({"c_x": float("inf")}, ValueError, "c_x"),
        ({"p_x": 1e39}, ValueError, "p_x"),
        ({"c_z": None}, TypeError, "."),
        ({"x": None}, TypeError, "."),
        ({"x": np.zeros((2, 3), np.float32)}, TypeError, "."),
    ],
)
def test_refused(changed: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        solver_step(**{**step_arguments(), **changed})


@pytest.mark.parametrize(
    ("written", "other"),
    [
        *itertools.product(["x"], ["output", "x0_hat", "noise", "p0", "p1", "p2"]),
        *itertools.product(["p0"], ["output", "x0_hat", "noise", "p1", "p2"]),
    ],
)
def test_shared_memory_is_refused(written: str, other: str) -> None:
    arguments = step_arguments()

    def put(name: str, tensor: Tensor) -> None:
        if name.startswith("p"):
            arguments["predictions"][int(name[1])] = tensor
        else:
            arguments[name] = tensor

    assert solver_step(**arguments) == 0
    whole = Tensor((1, 2, 3))
    put(written, whole.slice(0))
    put(other, whole.slice(0))
    with pytest.raises(ValueError, match="must not share memory"):
        solver_step(**arguments)


def test_shared_memory_is_refused_at_the_start() -> None:
    for first, second in itertools.combinations(range(6), 2):
        tensors = [Tensor((4,)) for _ in range(6)]
        tensors[second] = tensors[first]
        if first < 2:
            with pytest.raises(ValueError, match="must not share memory"):
                start_all(tensors)
        else:
            assert start_all(tensors) == 0


def test_start_refuses() -> None:
    names = ("x", "x0_hat", "latent_mean", "latent_std", "noise_posterior", "noise_start")
    for place, name in enumerate(names):
        tensors = [Tensor((4,)) for _ in names]
        tensors[place] = Tensor((4,), "float64")
        with pytest.raises(TypeError, match=f"{name}: expected dtype float32"):
            start_all(tensors)
        if place:
            tensors[place] = Tensor((5,))
            with pytest.raises(ValueError, match=rf"{name}: expected float32 \[4\], got float32 \[5\]"):
                start_all(tensors)
    with pytest.raises(ValueError, match="c_z"):
        start_all([Tensor((4,)) for _ in names], c_z=float("nan"))
