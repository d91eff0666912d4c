"""How far an engine's tensor is from the reference's, and how far it may be. In: two float32 arrays. Out: `Figures`.

What an export is accepted by (`export.verification`) and what `dossr verify` judges engines by are these same gates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.bundle import Precision

Array = npt.NDArray[np.float32]

_PIECE = 1 << 22
"""Elements that are widened to float64 at once."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a precision may differ by."""

    deviation: float
    """Largest max(|difference| / max(std of the reference, |reference|)): rounding is relative to the value, and
    exponentials (`latent_std`) have single values dozens of standard deviations away."""
    cosine: float
    """Smallest cosine of the angle between the two outputs."""


GATES = {
    # fp32: summation order alone differs; three orders of magnitude above what is measured would still be a bug
    Precision.FP32: Gate(deviation=1e-4, cosine=0.9999),
    # fp16: 11 bits of mantissa in weights and activations through some hundred layers
    Precision.FP16: Gate(deviation=2e-2, cosine=0.9999),
}

FP16_ARITHMETIC = Gate(deviation=5e-2, cosine=0.9999)
"""Where an engine keeps its intermediate results in fp16 too, and not only the weights as ONNX Runtime does on a CPU:
2.3e-2 was measured on the small golden checkpoint, twice what its weights alone give."""

ADDED_TO = {"latent_std": "latent_mean"}
"""Outputs whose error counts against another's spread: std weighs a normal that is added to the mean, and with trained
weights it is hundreds of times smaller, the exponential of a number that fp16 holds to a few hundredths.
"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One tensor against the reference's. Infinite where the tensor holds NaN or infinity."""

    max_abs: float
    mean_abs: float
    deviation: float
    """The relative error, see `Gate.deviation`."""
    cosine: float
    nan: int = 0
    """How many elements are NaN."""
    inf: int = 0
    """How many elements are infinite."""

    def within(self, gate: Gate) -> bool:
        """Whether the gate accepts it."""
        return self.deviation <= gate.deviation and self.cosine >= gate.cosine


def compare(result: Array, reference: Array, *, spread: float = 0.0) -> Figures:
    """The figures of one tensor.

    Args:
        result: any shape, not empty.
        reference: of the same shape, finite.
        spread: what the deviation is relative to at least (`ADDED_TO`); 0: the reference's own.
    """
    nan, inf = int(np.count_nonzero(np.isnan(result))), int(np.count_nonzero(np.isinf(result)))
    if nan or inf:
        return Figures(max_abs=math.inf, mean_abs=math.inf, deviation=math.inf, cosine=0.0, nan=nan, inf=inf)
    total = largest = product = square = result_square = 0.0
    for a, b in _pieces(result, reference):
        difference = np.abs(a - b)
        total += float(difference.sum())
        largest = max(largest, float(difference.max()))
        product += float(a @ b)
        square += float(b @ b)
        result_square += float(a @ a)
    floor = max(std(reference), spread, 1e-6 * float(np.abs(reference).max()), 1e-30)
    deviation = max(float((np.abs(a - b) / np.maximum(np.abs(b), floor)).max()) for a, b in _pieces(result, reference))
    cosine = product / max(math.sqrt(square) * math.sqrt(result_square), 1e-30) if largest else 1.0
    return Figures(max_abs=largest, mean_abs=total / result.size, deviation=deviation, cosine=cosine)


def std(values: Array) -> float:
    """The standard deviation in float64, 0 for a single value."""
    if values.size < 2:
        return 0.0
    mean = sum(float(a.sum()) for a, _ in _pieces(values, values)) / values.size
    return math.sqrt(sum(float(((a - mean) ** 2).sum()) for a, _ in _pieces(values, values)) / (values.size - 1))


def _pieces(a: Array, b: Array) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Both in float64, a piece at a time, so that large tensors are never there twice."""
    first, second = a.reshape(-1), b.reshape(-1)
    for start in range(0, first.size, _PIECE):
        piece = slice(start, start + _PIECE)
        yield first[piece].astype(np.float64), second[piece].astype(np.float64)
