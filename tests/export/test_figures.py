"""Figures of two tensors, against their definitions."""

import math

import numpy as np
import pytest

from export import figures
from export.figures import Gate, compare, std

torch = pytest.importorskip("torch")


def tensors(shape=(3, 5, 7), noise=0.01, seed=0):
    generator = np.random.default_rng(seed)
    reference = generator.standard_normal(shape).astype(np.float32)
    return (reference + noise * generator.standard_normal(shape)).astype(np.float32), reference


@pytest.mark.parametrize("piece", [1 << 22, 16, 1])
def test_definitions(monkeypatch, piece):
    monkeypatch.setattr(figures, "_PIECE", piece)
    ours, theirs = tensors()
    found = compare(ours, theirs)
    a, b = (torch.from_numpy(x).double().flatten() for x in (ours, theirs))
    assert found.max_abs == pytest.approx(float((a - b).abs().max()))
    assert found.mean_abs == pytest.approx(float((a - b).abs().mean()))
    assert found.deviation == pytest.approx(float(((a - b).abs() / b.abs().clamp_min(float(b.std()))).max()))
    assert found.cosine == pytest.approx(float(a @ b / (a.norm() * b.norm())))
    assert (found.nan, found.inf) == (0, 0)
    assert std(theirs) == pytest.approx(float(b.std()))


def test_equal_tensors():
    _, theirs = tensors()
    found = compare(theirs, theirs)
    assert (found.max_abs, found.deviation, found.cosine) == (0, 0, 1)
    assert found.within(Gate(deviation=0, cosine=1))


def test_zeros_against_zeros():
    zeros = np.zeros((4,), np.float32)
    assert compare(zeros, zeros).within(Gate(deviation=0, cosine=1))


def test_numbers_that_are_not_finite_are_counted_and_never_pass():
    ours, theirs = tensors()
    ours[0, 0, 0] = ours[0, 0, 1] = math.nan
    ours[1, 0, 0] = -math.inf
    found = compare(ours, theirs)
    assert (found.nan, found.inf) == (2, 1)
    assert found.deviation == math.inf
    assert not found.within(Gate(deviation=1e9, cosine=-1))


def test_another_s_spread_counts_where_it_is_larger():
    ours, theirs = tensors(noise=1e-3)
    assert compare(ours, theirs, spread=100.0).deviation == pytest.approx(compare(ours, theirs).max_abs / 100)


def test_a_single_value_has_no_spread():
    found = compare(np.array([1.01], np.float32), np.array([1.0], np.float32))
    assert found.deviation == pytest.approx(0.01, rel=1e-4)
