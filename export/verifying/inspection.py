"""An engine's graph beside the reference's, looked into. In: a call, both graphs. Out: figures of any intermediate
result that both have, in the engine's whole graph or computed from the reference's own values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.figures import ADDED_TO, Array, Figures, Gate, compare, std
from export.verifying.alignment import align
from export.verifying.candidates import Inside
from export.verifying.onnx_graph import OnnxGraph, Place, in_order
from export.verifying.reference import Network
from export.verifying.sampling import run_sampled
from export.verifying.sessions import Session, marked
from export.verifying.walk import Call

_MOST_MARKS = 8
_MARKED_BYTES = 1 << 30
_WIDEST = 64 << 10
"""Bytes of the largest tensor for each latent pixel: the decoder's 256 channels on 64 pixels, in float32."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the reference tells of one call of one graph."""

    call: Call
    places: Sequence[Place]
    samples: Sequence[Array]
    """Of each place."""


def known(call: Call, network: Network) -> Known:
    """Asks the reference's graph, which is open."""
    return Known(call=call, places=network.places(call.inputs), samples=network.samples(call.inputs))


@dataclass(frozen=True, kw_only=True)
class Departure:
    """Where a call's results come to be wrong."""

    verdict: str
    """"tensor": one tensor departs by itself. "sum": none does, rounding adds up; the tensor named is where it first
    passes the gate. "marks": the output is right while intermediate results are kept."""
    tensor: str
    node: str
    operator: str
    module: str
    """Path of the torch module; empty where it is not known."""
    figures: Figures
    """Of the tensor, as the engine computes it in the whole graph."""
    alone: Figures | None = None
    """Of the tensor, computed by the engine from the reference's values."""
    inputs: Mapping[str, float] = field(default_factory=dict)
    """What the tensor is made of, as far as the reference has it: name to deviation."""
    between: tuple[str, ...] = ()
    """Nodes from those inputs to the tensor, which the reference has no values of: any of them may be at fault."""
    compared: int = 0
    """Tensors that the reference has a value for."""
    runs: int = 0
    """Of the engine's graph, or of parts of it."""


class Inspection:
    """One call of one graph.

    Args:
        call: of the reference: its inputs and its outputs.
        inside: what the engine runs.
        canonical: the bundle's canonical graph, which gives values their names.
        places: the reference's.
        gate: what counts as departed.
    """

    def __init__(self, call: Call, inside: Inside, canonical: OnnxGraph, places: Sequence[Place], gate: Gate) -> None:
        self.graph, self.gate, self.runs = inside.graph, gate, 0
        self._call, self._settings, self._canonical, self._places = call, inside.settings, canonical, places
        self._index = {
            name: index
            for name, index in align(canonical.places(), places).items()
            if name in self.graph.producers and name not in call.outputs
        }
        self.outputs = in_order(self.graph, [name for name in call.outputs if name in self.graph.producers])
        self.known: dict[str, Figures] = {}
        """Of what has been measured so far, by name."""
        pixels = max(math.prod(output.shape) // 4 for output in call.outputs.values())
        if call.graph in ("preprocess", "decode"):
            pixels //= 48  # of pictures: 3 channels, 64 pixels
        self.marks = max(1, min(_MOST_MARKS, _MARKED_BYTES // (2 * _WIDEST * max(pixels, 1))))
        """Tensors that may be kept at once."""

    @property
    def comparable(self) -> list[str]:
        """Intermediate results that the reference has too, in the order in which they are made."""
        return in_order(self.graph, self._index)

    def sample(self, samples: Sequence[Array]) -> dict[str, Figures]:
        """Figures of every comparable tensor, from a few thousand elements of each and one run.

        Raises:
            EngineError: the graph cannot be run so.
        """
        names = self.comparable
        ours = run_sampled(self.graph, names, self._call.inputs, self._settings)
        self.runs += 1
        return {name: _figures(ours[name], samples[self._index[name]]) for name in names}

    def measure(self, names: Iterable[str], network: Network) -> None:
        """Runs the engine's graph as far as these tensors, and compares all of them; a few at a time.

        Raises:
            EngineError: the graph cannot be run so.
        """
        wanted = [name for name in names if name not in self.known]
        for start in range(0, len(wanted), self.marks):
            part = wanted[start : start + self.marks]
            values = self._values(part, network)
            results = Session(marked(self.graph, part), self.graph.folder, self._settings).run(self._call.inputs)
            self.runs += 1
            self.known |= {name: self._compared(name, results[name], values[name]) for name in part}

    def alone(self, name: str, network: Network) -> Figures:
        """The tensor as the engine computes it from the reference's own values.

        Raises:
            EngineError: the graph cannot be run so.
        """
        found = self._from_reference([name], name, network)[name]
        return self._compared(name, found, self._values([name], network)[name])

    def first_not_finite(self, name: str, network: Network) -> str:
        """Of the values on the way from the frontier to the tensor, the first that is NaN or infinite when the engine
        computes it from the reference's values; the tensor itself where it is the first.

        Raises:
            EngineError: the graph cannot be run so.
        """
        between = [one for one in self._way(name)[1] if one in self._canonical.producers]
        for one, values in self._from_reference(between, name, network).items() if between else ():
            figures = _figures(values, np.zeros_like(values))
            if figures.nan or figures.inf:
                self.known[one] = figures
                return one
        return name

    def _from_reference(self, names: Sequence[str], end: str, network: Network) -> dict[str, Array]:
        """Values on the way from the frontier of `end` to it, computed from the reference's."""
        given = self._values(self.frontier(end), network)
        cut = _cut(self.graph, {key: value.shape for key, value in given.items()})
        entries = {_entry(self.graph, key): value for key, value in given.items()}
        self.runs += 1
        return Session(marked(cut, names), cut.folder, self._settings).run({**self._call.inputs, **entries})

    def departs(self, name: str, threshold: float | None = None) -> bool:
        """Whether a measured tensor is beyond the threshold; None: the gate's."""
        return not self.known[name].deviation <= (self.gate.deviation if threshold is None else threshold)

    def ancestors(self, name: str) -> list[str]:
        """What the tensor is made of and the reference has too, all the way up."""
        return in_order(self.graph, [one for one in self.graph.ancestors(name) if self._has(one)])

    def frontier(self, name: str) -> list[str]:
        """The nearest of `ancestors`."""
        return self._way(name)[0]

    def departure(self, verdict: str, name: str, alone: Figures | None = None) -> Departure:
        """The tensor, measured before, in words."""
        nearest, between = self._way(name)
        named = self._canonical if name in self._canonical.producers else self.graph
        node = named.producers[name]
        traced = self._places[self._index[name]].module if name in self._index else ""
        return Departure(
            verdict=verdict,
            tensor=name,
            node=node.name or f"without a name, {node.op_type}",
            operator=node.op_type,
            module=traced or named.modules().get(name, ""),
            figures=self.known[name],
            alone=alone,
            inputs={one: self.known[one].deviation for one in nearest if one in self.known},
            between=tuple(named.producers[one].name or one for one in between if one in named.producers),
            compared=len(self._index),
            runs=self.runs,
        )

    def _way(self, name: str) -> tuple[list[str], list[str]]:
        """The frontier, and the floating values between it and the tensor."""
        nearest: set[str] = set()
        between: set[str] = set()
        waiting = self.graph.parents(name)
        while waiting:
            one = waiting.pop()
            if self._has(one):
                nearest.add(one)
            elif one in self.graph.producers and one not in between:
                between.add(one)
                waiting += self.graph.parents(one)
        return in_order(self.graph, nearest), [one for one in self.graph.results if one in between]

    def _has(self, name: str) -> bool:
        return name in self._index or name in self.outputs

    def _values(self, names: Sequence[str], network: Network) -> dict[str, Array]:
        """The reference's."""
        found = {name: self._call.outputs[name] for name in names if name in self._call.outputs}
        indices = {name: self._index[name] for name in names if name not in found}
        captured = network.capture(self._call.inputs, sorted(indices.values())) if indices else {}
        return found | {name: captured[index] for name, index in indices.items()}

    def _compared(self, name: str, result: Array, reference: Array) -> Figures:
        beside = self._call.outputs.get(ADDED_TO.get(name, ""))
        return _figures(result, reference, spread=0.0 if beside is None else std(beside))


def _figures(result: Array, reference: Array, *, spread: float = 0.0) -> Figures:
    if result.shape != reference.shape:
        return Figures(max_abs=math.inf, mean_abs=math.inf, deviation=math.inf, cosine=0.0)
    return compare(result, reference, spread=spread)


def _cut(graph: OnnxGraph, given: Mapping[str, Sequence[int]]) -> OnnxGraph:
    """The graph with these values, of these shapes, as further inputs instead of what makes them."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.node[:]
    for name, shape in given.items():
        entry = _entry(graph, name)
        model.graph.input.append(helper.make_tensor_value_info(entry, TensorProto.FLOAT, shape))
        if entry != name:
            model.graph.node.append(helper.make_node("Cast", [entry], [name], to=TensorProto.FLOAT16))
    for node in graph.nodes:
        new = model.graph.node.add()
        new.CopyFrom(node)
        new.output[:] = [f"{name}.not_used" if name in given else name for name in node.output]
    return OnnxGraph(model, graph.folder)


def _entry(graph: OnnxGraph, name: str) -> str:
    """The input's name through which a value is given in float32."""
    return f"{name}.given" if graph.types[name] == TensorProto.FLOAT16 else name
