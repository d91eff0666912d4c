"""Philox normals against their definition in Python's own arithmetic, and torch's CPU stream against torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
import torch

from runtime import _native
from runtime._native import Tensor, TorchCpuGenerator, philox_4x32_10, philox_normal

Floats = npt.NDArray[np.float32]


@pytest.fixture(params=[True, False], ids=["simd", "baseline"])
def simd(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Runs a test on both code paths."""
    _native._set_simd(request.param)
    yield request.param
    _native._set_simd(True)


def normals(shape: tuple[int, ...], seed: int, draw: int, y0: int = 0, x0: int = 0) -> Floats:
    out = Tensor(shape)
    philox_normal(out, seed, draw, y0, x0)
    return np.array(out)


def test_known_answers() -> None:
    """Random123's kat_vectors for philox4x32, 10 rounds."""
    ones = 0xFFFFFFFF
    assert philox_4x32_10((0,) * 4, (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox_4x32_10((ones,) * 4, (ones, ones)) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    assert philox_4x32_10((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)) == (
        0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1,
    )  # fmt: skip


def test_every_value_is_box_muller_of_its_own_counter(simd: bool) -> None:
    seed, draw, y0, x0 = 0x0123456789ABCDEF, 7, 2**32 - 3, 1000
    values = normals((2, 3, 3, 21), seed, draw, y0, x0)
    for c, y, x in np.ndindex(3, 3, 21):
        word0, word1, _, _ = philox_4x32_10((x0 + x, y0 + y, c, draw), (seed & 0xFFFFFFFF, seed >> 32))
        u = float(np.float32(np.float32(word0) * np.float32(2**-32) + np.float32(2**-33)))
        exact = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * word1 / 2**32)
        # Three float32 roundings of numbers up to 6.8; near a zero of the cosine only the absolute error is small.
        assert abs(values[0, c, y, x] - exact) <= 4e-7 * max(1.0, abs(exact))
    assert (values[0] == values[1]).all()


GOLDEN = {
    (0, 0): [
        "0x1.fb76620000000p-1",
        "-0x1.3aa6a60000000p-3",
        "0x1.22e8f60000000p+0",
        "0x1.05a0680000000p+0",
        "0x1.114d960000000p+0",
        "0x1.9eaf9c0000000p-2",
        "-0x1.88b8f60000000p-1",
        "0x1.09c7140000000p+0",
    ],
    (42, 3): [
        "-0x1.dceb9c0000000p-1",
        "0x1.27087e0000000p+0",
        "0x1.13e2e80000000p-3",
        "0x1.21bf4c0000000p-1",
        "-0x1.5ee56e0000000p-3",
        "-0x1.95c3520000000p+0",
        "-0x1.bbf8d00000000p+0",
        "0x1.9573c20000000p-2",
    ],
    (-1, 0xFFFFFFFF): [
        "-0x1.ceba760000000p-1",
        "-0x1.2f6a300000000p+0",
        "0x1.a674fe0000000p-1",
        "-0x1.781f620000000p-1",
        "-0x1.83b4de0000000p-1",
        "-0x1.7125940000000p-1",
        "-0x1.5e97900000000p-3",
        "-0x1.06ddca0000000p-3",
    ],
}


@pytest.mark.parametrize("key", GOLDEN, ids=str)
def test_the_bits_never_change(key: tuple[int, int], simd: bool) -> None:
    """A seed that a user wrote down gives the same image in every later version."""
    values = normals((1, 2, 2, 2), *key)
    assert [value.hex() for value in map(float, values.ravel())] == GOLDEN[key]


def test_both_paths_and_any_threads_give_the_same_bits() -> None:
    shape = (2, 4, 150, 131)
    reference = normals(shape, 42, 0)
    try:
        for simd in (True, False):
            _native._set_simd(simd)
            for threads in (1, 2, 3, 8):
                _native.set_num_threads(threads)
                assert normals(shape, 42, 0).tobytes() == reference.tobytes()
    finally:
        _native._set_simd(True)
        _native.set_num_threads(2)


def test_tiles_are_windows_of_the_whole() -> None:
    whole = normals((1, 4, 40, 56), 5, 1)
    for y0, x0, height, width in [(0, 0, 8, 8), (3, 5, 17, 1), (39, 55, 1, 1), (8, 16, 32, 40)]:
        tile = normals((3, 4, height, width), 5, 1, y0, x0)
        for item in tile:
            np.testing.assert_array_equal(item, whole[0, :, y0 : y0 + height, x0 : x0 + width])


def test_seed_draw_and_channel_give_different_values() -> None:
    planes = [normals((1, 2, 8, 8), seed, draw) for seed in (0, 1, 1 << 32, 1 << 63) for draw in (0, 1)]
    flat = np.concatenate([plane.reshape(2, -1) for plane in planes])
    assert len({row.tobytes() for row in flat}) == 16
    assert normals((1, 1, 2, 2), -1, 0).tobytes() == normals((1, 1, 2, 2), 2**64 - 1, 0).tobytes()


def test_distribution() -> None:
    values = np.sort(normals((1, 4, 1024, 512), 2024, 0).ravel().astype(np.float64))
    n = values.size
    assert np.isfinite(values).all()
    # Five standard errors each.
    assert abs(values.mean()) < 5 / math.sqrt(n)
    assert abs(values.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((values**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((values**4).mean() - 3) < 5 * math.sqrt(96 / n)
    grid = values[:: n // 4096]
    cdf = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in grid])
    rank = np.arange(0, n, n // 4096) / n
    assert np.abs(cdf - rank).max() < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov, p = 0.001
    assert abs(values).max() < 6.77


def test_neighbours_are_uncorrelated() -> None:
    values = normals((1, 2, 512, 512), 3, 0)[0]
    bound = 5 / math.sqrt(values[0].size)
    assert abs((values[0] * values[1]).mean()) < bound
    assert abs((values[0, :, 1:] * values[0, :, :-1]).mean()) < bound
    assert abs((values[0, 1:] * values[0, :-1]).mean()) < bound
    assert abs((values[0] * normals((1, 1, 512, 512), 3, 1)[0, 0]).mean()) < bound
    assert abs((values[0] * normals((1, 1, 512, 512), 4, 0)[0, 0]).mean()) < bound


@pytest.mark.parametrize("n", [*range(1, 41), 1024, 1030, 65536])
def test_torch_stream(n: int, simd: bool) -> None:
    """Mixed sizes on one generator, so that the pair left over by small draws has to survive large ones."""
    generator = TorchCpuGenerator(n)
    torch.manual_seed(n)
    for count in (n, 1, n, 3, 16, n, 17, 1, 5):
        out = Tensor((count,))
        generator.normal(out)
        # SIMD logarithms and cosines differ in the last bits; values reach 5.8.
        np.testing.assert_allclose(np.asarray(out), torch.randn(count).numpy(), rtol=0, atol=5e-6)


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31, 2**32 - 1, 2**32 + 42, 2**63, 2**64 - 1, -1, -(2**63)])
def test_torch_seeds(seed: int) -> None:
    generator = TorchCpuGenerator(seed)
    torch.manual_seed(seed)
    out = Tensor((1, 4, 8, 9))
    generator.normal(out)
    np.testing.assert_allclose(np.asarray(out), torch.randn(1, 4, 8, 9).numpy(), rtol=0, atol=5e-6)


def test_torch_stream_is_the_same_on_both_paths() -> None:
    draws = []
    for simd in (True, False):
        _native._set_simd(simd)
        out = Tensor((4097,))
        TorchCpuGenerator(9).normal(out)
        draws.append(np.array(out))
    _native._set_simd(True)
    assert draws[0].tobytes() == draws[1].tobytes()


def test_torch_extremes_are_finite() -> None:
    out = Tensor((1 << 22,))
    TorchCpuGenerator(0).normal(out)
    values = np.asarray(out)
    assert np.isfinite(values).all()
    assert abs(values.astype(np.float64).var() - 1) < 0.005


def test_one_generator_on_many_threads_gives_each_value_once() -> None:
    count, draws = 1024, 64
    generator = TorchCpuGenerator(1)
    outs = [Tensor((count,)) for _ in range(draws)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(generator.normal, outs))
    alone = TorchCpuGenerator(1)
    expected = set()
    for _ in range(draws):
        out = Tensor((count,))
        alone.normal(out)
        expected.add(bytes(out))
    assert {bytes(out) for out in outs} == expected


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((Tensor((4, 4)), 0, 0), ValueError, r"out: .*\[B, C, H, W\].*\[4, 4\]"),
        ((Tensor((1, 1, 2, 2), "float64"), 0, 0), TypeError, "out: expected dtype float32, got float64"),
        ((Tensor((1, 1, 2, 2)), 2**64, 0), ValueError, "seed: .*18446744073709551616"),
        ((Tensor((1, 1, 2, 2)), -(2**63) - 1, 0), ValueError, "seed"),
        ((Tensor((1, 1, 2, 2)), 1.0, 0), TypeError, "seed: expected an integer, got float"),
        ((Tensor((1, 1, 2, 2)), 0, -1), ValueError, "draw"),
        ((Tensor((1, 1, 2, 2)), 0, 2**32), ValueError, "draw"),
        ((Tensor((1, 1, 2, 2)), 0, 0, 2**32 - 1), ValueError, "y0"),
        ((Tensor((1, 1, 2, 2)), 0, 0, 0, -1), ValueError, "x0"),
        ((None, 0, 0), TypeError, "incompatible"),
    ],
)
def test_refused(arguments: tuple[int, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        philox_normal(*arguments)  # type: ignore[arg-type]


def test_refused_by_the_torch_stream() -> None:
    with pytest.raises(TypeError, match="out: expected dtype float32"):
        TorchCpuGenerator(0).normal(Tensor((3,), "float64"))
    with pytest.raises(ValueError, match="seed"):
        TorchCpuGenerator(2**64)
    with pytest.raises(TypeError, match="seed: expected an integer, got NoneType"):
        TorchCpuGenerator(None)  # type: ignore[arg-type]
