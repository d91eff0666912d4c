"""Which parts of an fp16 graph have to stay in float32. In: a call that the graph gets wrong. Out: the smallest set of
values, of those tried, that brings the outputs under the gate.

A device would cast to float32 where data enter such an island, and back where they leave it: `rounding.rounded`
computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.figures import ADDED_TO, Array, Figures, Gate, compare, std
from export.verifying.onnx_graph import OnnxGraph, in_order, pruned
from export.verifying.rounding import LARGEST, rounded
from export.verifying.sessions import Session, SessionSettings
from export.verifying.walk import Call

_MOST_SHRINKING = 16
"""Runs that are spent on making the set smaller."""
_REACHES = (0, 1, 2, 4, 8)
"""Steps along the graph from the tensor that departs."""


@dataclass(frozen=True, kw_only=True)
class Island:
    """A set of values that was computed in float32."""

    label: str
    """How it was chosen."""
    size: int
    """Values, which is nodes, in it."""
    figures: Figures
    """Of the worst output."""
    mends: bool
    """Whether every output passes the gate."""


@dataclass(frozen=True, kw_only=True)
class IslandReport:
    """What was tried."""

    tried: tuple[Island, ...]
    smallest: Island | None
    """The smallest set that mends; None where none does, not even all of the graph: then it is not a matter of
    precision."""
    nodes: tuple[str, ...] = ()
    """Of the smallest set."""
    modules: tuple[str, ...] = ()
    """Torch modules that these nodes belong to."""
    values: int = 0
    """In the whole graph."""
    beyond: int = 0
    """Values of the graph that exceed fp16's largest number when they are computed in float32."""


def find_islands(call: Call, half: OnnxGraph, tensor: str, gate: Gate, settings: SessionSettings) -> IslandReport:
    """Tries sets from small to large, then makes the first that mends smaller.

    Args:
        call: of the reference: inputs and outputs.
        half: the canonical fp16 graph.
        tensor: where the search begins: the first that departs; "" where that is not known.
        gate: of the outputs.
        settings: how to run the graph.

    Raises:
        EngineError: the graph cannot be run.
    """
    everything = half.results
    tried: list[Island] = []

    def attempt(label: str, island: Sequence[str]) -> bool:
        graph = rounded(half, frozenset(island))
        results = Session(graph.model, graph.folder, settings).run(call.inputs)
        worst = max((_figures(call, name, results[name]) for name in call.outputs), key=lambda f: f.deviation)
        mends = all(_figures(call, name, results[name]).within(gate) for name in call.outputs)
        tried.append(Island(label=label, size=len(island), figures=worst, mends=mends))
        return mends

    if not attempt("the whole graph", everything):
        return IslandReport(tried=tuple(tried), smallest=None, values=len(everything))
    beyond = beyond_range(call.inputs, half, everything, settings)
    label, island = "the whole graph", everything
    sets = _sets(half, tensor, beyond, everything)
    for one in sorted(sets, key=lambda name: len(sets[name])):
        if attempt(one, sets[one]):
            label, island = one, sets[one]
            break
    island = _shrunk(label, island, attempt)
    modules = half.modules()
    mending = [one for one in tried if one.mends]
    return IslandReport(
        tried=tuple(tried),
        smallest=min(mending, key=lambda one: one.size),
        nodes=tuple(half.producers[name].name or name for name in island),
        modules=tuple(dict.fromkeys(modules[name] for name in island if modules.get(name))),
        values=len(everything),
        beyond=len(beyond),
    )


def _sets(half: OnnxGraph, tensor: str, beyond: Sequence[str], everything: Sequence[str]) -> dict[str, list[str]]:
    """Sets worth trying, by what they are; equal ones once."""
    allowed = set(everything)
    readers: dict[str, list[str]] = {}
    for name in everything:
        for parent in half.parents(name):
            readers.setdefault(parent, []).append(name)
    found: dict[str, set[str]] = {}
    if beyond:
        found["what makes or reads a value beyond fp16's range"] = set(beyond) | {
            reader for name in beyond for reader in readers.get(name, ())
        }
    if tensor in allowed:
        near = {tensor}
        for reach in range(max(_REACHES) + 1):
            if reach in _REACHES:
                found[f"{tensor} and what follows within {reach} steps" if reach else f"{tensor} alone"] = set(near)
            near |= {reader for name in near for reader in readers.get(name, ())}
        operator = half.producers[tensor].op_type
        found[f"every {operator}"] = {name for name in everything if half.producers[name].op_type == operator}
        modules = half.modules()
        module = modules.get(tensor, "")
        while module:
            found[f"module {module}"] = {n for n in everything if f"{modules.get(n, '')}.".startswith(f"{module}.")}
            module = module.rpartition(".")[0]
        found[f"{tensor} and all that it is made of"] = {tensor} | (half.ancestors(tensor) & allowed)
    unique: dict[frozenset[str], str] = {}
    for label, names in found.items():
        unique.setdefault(frozenset(names & allowed), label)
    return {label: in_order(half, names) for names, label in unique.items() if 0 < len(names) < len(everything)}


def _shrunk(label: str, island: list[str], attempt: Callable[[str, Sequence[str]], bool]) -> list[str]:
    """Leaves parts of the set out as long as the rest still mends: halves, then quarters, and so on."""
    parts, left = 2, _MOST_SHRINKING
    while len(island) > 1 and left > 0:
        size = -(-len(island) // parts)
        for start in range(0, len(island), size):
            rest = island[:start] + island[start + size :]
            left -= 1
            if rest and attempt(f"a part of: {label}", rest):
                island, parts = rest, max(parts - 1, 2)
                break
            if left <= 0:
                return island
        else:
            if size == 1:
                return island
            parts *= 2
    return island


def beyond_range(
    inputs: Mapping[str, Array],
    half: OnnxGraph,
    names: Sequence[str],
    settings: SessionSettings,
    largest: float = LARGEST,
) -> list[str]:
    """Values that exceed a number, or are none, from one run in float32 that gives the largest magnitude of each and no
    more.

    Args:
        inputs: by name.
        half: a graph in fp16.
        names: of the values to look at.
        settings: how to run the graph.
        largest: the number; fp16's own, unless some room is wanted.

    Raises:
        EngineError: the graph cannot be run.
    """
    graph = rounded(half, frozenset(names))
    whole = {name: f"{name}.unrounded" if f"{name}.unrounded" in graph.producers else name for name in names}
    outputs = [helper.make_tensor_value_info(f"{name}.largest", TensorProto.FLOAT, None) for name in names]
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "flat.shape"))
    for name in names:
        model.graph.node.append(helper.make_node("Reshape", [whole[name], "flat.shape"], [f"{name}.flat"]))
        model.graph.node.append(helper.make_node("Abs", [f"{name}.flat"], [f"{name}.abs"]))
        model.graph.node.append(helper.make_node("ReduceMax", [f"{name}.abs"], [f"{name}.largest"], keepdims=0))
    measuring = OnnxGraph(model, half.folder)
    found = Session(pruned(measuring, outputs), half.folder, settings).run(inputs)
    return [name for name in names if not float(found[f"{name}.largest"]) <= largest]


def _figures(call: Call, name: str, result: Array) -> Figures:
    beside = call.outputs.get(ADDED_TO.get(name, ""))
    return compare(result, call.outputs[name], spread=0.0 if beside is None else std(beside))
