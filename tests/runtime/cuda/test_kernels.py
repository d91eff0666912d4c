"""Casts, noise and the sampler: every kernel against its twin on the host, bit for bit.

Device tensors lie between two neighbours that must not change (`Gpu`), which also makes most of them unaligned.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.cuda.gpu import PLAN, START, Array, Gpu, Sampler, random, same_bits, table

moderately = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 2047, 2048, 2049, 16384])
def test_cast(gpu: Gpu, count: int) -> None:
    for source, target in (("float32", "float16"), ("float16", "float32")):
        values = np.random.default_rng(count).integers(0, 256, count * np.dtype(source).itemsize, np.uint8).view(source)
        out = gpu.garbage((count,), target)
        gpu.cuda.cast(gpu.stream, gpu.up(values), out)
        expected = gpu.native.Tensor((count,), target)
        gpu.native.cast(gpu.native.tensor_from(values), expected)
        same_bits(gpu.down(out), np.array(expected))


def test_cast_of_every_half(gpu: Gpu) -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    floats, back = gpu.garbage(halves.shape), gpu.garbage(halves.shape, "float16")
    gpu.cuda.cast(gpu.stream, gpu.up(halves), floats)
    gpu.cuda.cast(gpu.stream, floats, back)
    np.testing.assert_array_equal(gpu.down(floats), halves.astype(np.float32))
    np.testing.assert_array_equal(gpu.down(back), halves)


def normals(gpu: Gpu, shape: tuple[int, ...], seed: int, draw: int, y0: int = 0, x0: int = 0) -> Array:
    out = gpu.native.Tensor(shape)
    gpu.native.philox_normal(out, seed, draw, y0, x0)
    return np.array(out)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (0, 1, 1, 1), (1, 4, 64, 64), (3, 2, 1, 131), (2, 5, 7, 3), (2, 3, 1, 1), (1, 1, 13, 512)]
)
def test_philox(gpu: Gpu, shape: tuple[int, ...]) -> None:
    last = 2**32 - 1, 2**32 - shape[2], 2**32 - shape[3]
    for seed, draw, y0, x0 in ((42, 0, 0, 0), (-1, *last), (2**62 + 5, 7, 1, 1001)):
        out = gpu.garbage(shape)
        gpu.cuda.philox_normal(gpu.stream, out, gpu.up(np.array([seed], np.int64)), draw, y0, x0)
        same_bits(gpu.down(out), normals(gpu, shape, seed, draw, y0, x0))


SHAPES = [(1, 1, 1, 1), (1, 4, 64, 64), (2, 4, 7, 5), (3, 1, 1, 6), (1, 4, 33, 131), (0, 4, 8, 8)]


@pytest.mark.parametrize("drawn", [True, False], ids=["drawn", "given"])
@pytest.mark.parametrize("shape", SHAPES)
def test_start(gpu: Gpu, shape: tuple[int, ...], drawn: bool) -> None:
    mean, std = random(*shape, seed=1), random(*shape, seed=2)
    noise = [normals(gpu, shape, 7, draw) if drawn else random(*shape, seed=3 + draw) for draw in (0, 1)]
    sampler = Sampler(gpu)
    x, x0_hat = gpu.garbage(shape), gpu.garbage(shape)
    sampler.start(x, x0_hat, gpu.up(mean), gpu.up(std), None if drawn else [gpu.up(part) for part in noise])

    twins = [gpu.native.Tensor(shape) for _ in range(2)]
    seen = gpu.native.start(*twins, *map(gpu.native.tensor_from, (mean, std, *noise)), PLAN[0, 5], PLAN[0, 9])
    same_bits(gpu.down(x), np.array(twins[0]))
    same_bits(gpu.down(x0_hat), np.array(twins[1]))
    assert gpu.down(sampler.timestep) == [900]
    assert sampler.seen().tolist() == [np.float32(seen), 0, 0, 0, 0]


@pytest.mark.parametrize("noise", ["drawn", "given", "not read"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_step(gpu: Gpu, shape: tuple[int, ...], order: int, noise: str) -> None:
    row = {"drawn": 1, "given": 2, "not read": 3}[noise]
    x, output, x0_hat, *ring = (random(*shape, seed=i) for i in range(6))
    normal = normals(gpu, shape, 7, row + 1) if noise == "drawn" else random(*shape, seed=6)
    if noise == "not read":
        normal[...] = np.nan
    sampler = Sampler(gpu)
    device_x, device_ring = gpu.up(x), [gpu.garbage(shape), *map(gpu.up, ring[1:order])]
    device_noise = None if noise == "drawn" else gpu.up(normal)
    sampler.step(device_x, gpu.up(output), gpu.up(x0_hat), device_ring, device_noise, row)

    tensor_from, numbers = gpu.native.tensor_from, list(map(float, PLAN[row]))
    twin_x, twin_ring = tensor_from(x), [gpu.native.Tensor(shape), *map(tensor_from, ring[1:])]
    seen = gpu.native.solver_step(
        twin_x, tensor_from(output), tensor_from(x0_hat), twin_ring, tensor_from(normal),
        *numbers[1:6], numbers[6 : 6 + order], numbers[9],
    )  # fmt: skip
    same_bits(gpu.down(device_x), np.array(twin_x))
    same_bits(gpu.down(device_ring[0]), np.array(twin_ring[0]))
    for tensor, array in zip(device_ring[1:], ring[1:order], strict=True):
        same_bits(gpu.down(tensor), array)
    expected = np.zeros(5, np.float32)
    expected[row] = seen
    same_bits(sampler.seen(), expected)
    if row < 3:
        assert gpu.down(sampler.timestep) == [PLAN[row + 1, 0]]
    else:
        same_bits(gpu.down(sampler.timestep), gpu.down(gpu.garbage((1,))))


@moderately
@given(st.lists(st.integers(1, 21), min_size=4, max_size=4), st.integers(-(2**63), 2**63 - 1))
def test_noise_drawn_is_noise_given(gpu: Gpu, shape: list[int], seed: int) -> None:
    sides = tuple(shape)
    mean, std = gpu.up(random(*sides)), gpu.up(random(*sides, seed=1))
    results = []
    for drawn in (True, False):
        sampler = Sampler(gpu, seed=seed)
        draws = [None if drawn else gpu.garbage(sides) for _ in range(3)]
        for draw, noise in enumerate(draws):
            if noise is not None:
                gpu.cuda.philox_normal(gpu.stream, noise, sampler.seed, draw)
        x, x0_hat, newest = (gpu.garbage(sides) for _ in range(3))
        sampler.start(x, x0_hat, mean, std, None if drawn else draws[:2])
        sampler.step(x, mean, x0_hat, [newest], draws[2], 1)
        results.append([gpu.down(x), gpu.down(newest), sampler.seen()])
    for one, other in zip(*results, strict=True):
        same_bits(one, other)


EXTREMES = [(np.nan, np.nan), (np.inf, np.inf), (-np.inf, np.inf), (-3e38, 3e38), (448.0, 448.0), (-1e-3, 1e-3)]
PLACES = [(1, 0), (7, 6), (5003, 0), (5003, 511), (5003, 512), (5003, 5002)]


@pytest.mark.parametrize(("value", "seen"), EXTREMES)
@pytest.mark.parametrize(("count", "place"), PLACES)
def test_one_value_is_seen_wherever_it_is(gpu: Gpu, count: int, place: int, value: float, seen: float) -> None:
    odd = np.zeros((count,), np.float32)
    odd[place] = value
    zeros = gpu.up(np.zeros((count,), np.float32))
    sampler = Sampler(
        gpu, table((0, 0, 0, 0, 0, 1e-3, 0, 0, 0, 1), (0, 0, 1, 0, 0, 0, 1e-3, 0, 0, 0), (0, *[0.0] * 8, 1))
    )
    # The mean becomes x0_hat, the output the prediction, where x takes up little of it; the noise x alone.
    sampler.start(gpu.garbage((count,)), gpu.garbage((count,)), gpu.up(odd), zeros, (zeros, zeros))
    sampler.step(gpu.up(np.zeros((count,), np.float32)), gpu.up(odd), zeros, [gpu.garbage((count,))], zeros, 1)
    sampler.step(gpu.up(np.zeros((count,), np.float32)), zeros, zeros, [gpu.garbage((count,))], gpu.up(odd), 2)
    np.testing.assert_array_equal(sampler.seen(), np.array([seen, seen, seen, 0], np.float32))


def test_nan_is_more_than_infinity_and_the_largest_stays(gpu: Gpu) -> None:
    sampler = Sampler(gpu, table(START, (0, *[0.0] * 8, 1)))
    for values, seen in (
        ([1.0, 5.0], 5),
        ([2.0, -1.0], 5),
        ([np.inf, 9.0], np.inf),
        ([np.inf, -np.nan], np.nan),
        ([1.0, 2.0], np.nan),
    ):
        zeros = [gpu.up(np.zeros(2, np.float32)) for _ in range(4)]
        sampler.step(zeros[0], zeros[1], zeros[2], [zeros[3]], gpu.up(np.array(values, np.float32)), 1)
        np.testing.assert_equal(sampler.seen()[1], np.float32(seen))


def test_any_number_of_threads_launch_at_once(gpu: Gpu) -> None:
    """Each on a stream of its own."""
    shape = (1, 4, 40, 41)

    def one(seed: int) -> Array:
        mine = Gpu(gpu.native)
        x, x0_hat, zeros = mine.garbage(shape), mine.garbage(shape), mine.up(np.zeros(shape, np.float32))
        sampler = Sampler(mine, seed=seed)
        sampler.start(x, x0_hat, zeros, zeros, None)
        sampler.step(x, x0_hat, x0_hat, [zeros], None, 1)
        mine.check_surroundings()
        return mine.down(x)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(one, range(8)))
    for seed, latent in enumerate(together):
        same_bits(latent, one(seed))


def test_more_than_2_to_the_31_elements(gpu: Gpu) -> None:
    """Indices of 64 bits, where there is room for them."""
    free, _ = gpu.cuda.memory(0)
    if gpu.native.__name__.endswith("_on_host") or free < 30 * 2**30:
        pytest.skip("needs 30 GiB of a GPU's memory")
    rows, row = 17, 2**27 + 2**10
    halves = gpu.native.Tensor((rows, row), "float16", "cuda")
    floats = gpu.native.Tensor((rows, row), "float32", "cuda")
    values = random(row).astype(np.float16)
    gpu.put(halves.slice(rows - 1), values)
    gpu.cuda.cast(gpu.stream, halves, floats)
    same_bits(gpu.down(floats.slice(rows - 1)), values.astype(np.float32))
    # One value after another along the last row, of an item that is larger than 2^31.
    out = gpu.native.Tensor((1, 1, rows, row), "float32", "cuda")
    gpu.cuda.philox_normal(gpu.stream, out, gpu.up(np.array([3], np.int64)), 5)
    last = out.slice(0).slice(0).slice(rows - 1)
    same_bits(gpu.down(last)[-4096:], normals(gpu, (1, 1, 1, 4096), 3, 5, rows - 1, row - 4096)[0, 0, 0])
