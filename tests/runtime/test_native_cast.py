"""cast against NumPy's float16, bit for bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runtime._native import Tensor, cast, tensor_from

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]


def narrowed(values: Floats) -> Halves:
    out = Tensor(values.shape, "float16")
    out.fill(1)
    cast(tensor_from(values), out)
    return np.asarray(out)


def widened(halves: Halves) -> Floats:
    out = Tensor(halves.shape)
    out.fill(1)
    cast(tensor_from(halves), out)
    return np.asarray(out)


def bits(values: Halves) -> npt.NDArray[np.uint16]:
    """NaN as one of each sign: NumPy keeps a NaN's other bits, which nobody reads."""
    plain = values.copy()
    plain[np.isnan(values)] = np.nan
    return np.copysign(plain, values).view(np.uint16)


def expected(values: Floats) -> Halves:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def test_every_half_becomes_its_float_and_comes_back() -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(16, 4096)
    floats = widened(halves)
    np.testing.assert_array_equal(floats, halves.astype(np.float32))
    assert (np.signbit(floats) == np.signbit(halves)).all()
    np.testing.assert_array_equal(bits(narrowed(floats)), bits(halves))


def test_ties_and_their_neighbours() -> None:
    """Halfway between each two halves, and a bit to either side."""
    halves = np.arange(0x7BFF, dtype=np.uint16)
    low, high = (pair.view(np.float16).astype(np.float64) for pair in (halves, halves + np.uint16(1)))
    ties = ((low + high) / 2).astype(np.float32)
    for values in (ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(np.inf))):
        for signed in (values, -values):
            np.testing.assert_array_equal(bits(narrowed(signed)), bits(expected(signed)))


def test_beyond_the_range() -> None:
    values = np.array([65504, 65519.996, 65520, 3e38, np.inf, -65520, -np.inf, 2**-25, 2**-26, 1e-45, -0.0], np.float32)
    got = narrowed(values)
    np.testing.assert_array_equal(bits(got), bits(expected(values)))
    assert got.tolist()[:7] == [65504, 65504, np.inf, np.inf, np.inf, -np.inf, -np.inf]


def test_a_nan_is_the_quiet_one_of_its_sign() -> None:
    nans = np.array([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert narrowed(nans).view(np.uint16).tolist() == [0x7E00, 0x7E00, 0x7E00, 0xFE00, 0xFE00]
    halves = np.array([0x7C01, 0x7FFF, 0xFC01], np.uint16).view(np.float16)
    assert widened(halves).view(np.uint32).tolist() == [0x7FC00000, 0x7FC00000, 0xFFC00000]


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.uint32, st.integers(0, 70), elements=st.integers(0, 2**32 - 1)))
def test_any_bits(words: npt.NDArray[np.uint32]) -> None:
    values = words.view(np.float32)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(bits(narrowed(values)), bits(expected(values)))


def test_many_at_once() -> None:
    values = np.random.default_rng(0).standard_normal((3, 100003)).astype(np.float32)
    np.testing.assert_array_equal(narrowed(values), values.astype(np.float16))


@pytest.mark.parametrize(
    ("source", "out", "error", "text"),
    [
        (Tensor((3,)), Tensor((3,)), TypeError, "src and out: expected float32 and float16"),
        (Tensor((3,), "float16"), Tensor((3,), "float16"), TypeError, "src and out"),
        (Tensor((3,), "float64"), Tensor((3,), "float16"), TypeError, "src and out"),
        (Tensor((3,)), Tensor((4,), "float16"), ValueError, r"out: expected the shape of src, float32 \[3\]"),
        (None, Tensor((4,), "float16"), TypeError, "."),
    ],
)
def test_refused(source: Tensor, out: Tensor, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        cast(source, out)
