"""Whether a graph's weights are the reference's. In: the canonical graph and the reference's network. Out: those that
differ, found one weight at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from engines.bundle import Precision
from export.figures import Figures, Gate, compare
from export.verifying.alignment import align
from export.verifying.inspection import Known
from export.verifying.onnx_graph import OnnxGraph, Place
from export.verifying.reference import Network

WEIGHT_GATES = {
    # fp32: copies; the prompt's keys and values are products that another processor may round otherwise
    Precision.FP32: Gate(deviation=1e-4, cosine=0.999),
    # fp16: 11 bits of mantissa, and 2^-24 where a weight is nearly nothing
    Precision.FP16: Gate(deviation=2e-3, cosine=0.999),
}


@dataclass(frozen=True, kw_only=True)
class WrongWeight:
    """A weight that is not the reference's."""

    name: str
    """In the bundle's file."""
    module: str
    """Path of the torch module that it belongs to, with the weight's own name at its end."""
    figures: Figures
    zero: bool
    """Whether every number of it is zero, and the reference's are not."""


@dataclass(frozen=True, kw_only=True)
class WeightReport:
    """Every weight of one graph that the reference has too."""

    compared: int
    wrong: tuple[WrongWeight, ...]


def compare_weights(first: Known, canonical: OnnxGraph, network: Network, precision: Precision) -> WeightReport:
    """Compares the weights of a graph; `first` is what the reference tells of any call of it."""
    compared, wrong = 0, []
    for name, other in _pairs(canonical, first.places).items():
        ours, theirs = canonical.constant(name), network.parameter(other)
        if ours is None or theirs is None or not ours.size:
            continue
        same = [form for form in (theirs, theirs.T) if form.shape == ours.shape]  # exporters store some transposed
        if not same or (name == other and theirs.shape != ours.shape):
            continue
        compared += 1
        found = [compare(ours, np.ascontiguousarray(form)) for form in (same[:1] if name == other else same)]
        figures = min(found, key=lambda one: one.deviation)
        if not figures.within(WEIGHT_GATES[precision]):
            zero = not ours.any() and bool(theirs.any())
            wrong.append(WrongWeight(name=name, module=other, figures=figures, zero=zero))
    return WeightReport(compared=compared, wrong=tuple(wrong))


def _pairs(canonical: OnnxGraph, places: Sequence[Place]) -> Mapping[str, str]:
    """Our weights' names to the reference's: the same name where it is a torch module's, else by where they stand."""
    ours = canonical.places()
    counterparts = align(ours, places)
    pairs = {name: name for name in canonical.constants if "." in name}
    for place in ours:
        if place.name in counterparts:
            theirs = places[counterparts[place.name]].operands
            unnamed = [name for name in place.operands if name not in pairs and _is_weight(canonical, name)]
            left = [name for name in theirs if name not in place.operands or name in unnamed]
            pairs |= dict(zip(unnamed, left, strict=False))
    return pairs


def _is_weight(graph: OnnxGraph, name: str) -> bool:
    return graph.constants[name].data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)


def same_kind(wrong: tuple[WrongWeight, ...]) -> Iterator[tuple[str, int]]:
    """The last words of the wrong weights' names ("attn2.keys"), with how many end so."""
    kinds: dict[str, int] = {}
    for weight in wrong:
        kind = ".".join(weight.module.split(".")[-2:])
        kinds[kind] = kinds.get(kind, 0) + 1
    yield from sorted(kinds.items(), key=lambda item: -item[1])
