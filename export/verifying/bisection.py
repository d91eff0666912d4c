"""The first tensor that departs. In: a call whose output is wrong, the engine's graph and the reference's. Out: the
tensor, with its node, its torch module and its weights.

Intermediate results that both sides have are marked as outputs a few at a time. A tensor that departs while everything
it is made of does not is then computed once more from the reference's own values: if it departs even so, it is the
culprit; if not, it only enlarges what rounding did before it, and the search goes on above that level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper

from export.figures import ADDED_TO, Array, Figures, Gate, compare, std
from export.verifying.alignment import align
from export.verifying.candidates import Inside
from export.verifying.onnx_graph import OnnxGraph, Place, in_order
from export.verifying.reference import Network
from export.verifying.sessions import Session, marked
from export.verifying.walk import Call

_MOST_MARKS = 8
_MARKED_BYTES = 1 << 30
_WIDEST = 64 << 10
"""Bytes of the largest tensor for each latent pixel: the decoder's 256 channels on 64 pixels, in float32."""
_MOST_ROUNDS = 60
_NOISE = 2.0
"""An innocent tensor's deviation times this is the next round's threshold."""


@dataclass(frozen=True, kw_only=True)
class Departure:
    """Where a call's output comes to be wrong."""

    verdict: str
    """"tensor": one tensor departs by itself. "sum": none does, rounding adds up; the tensor named is where it first
    passes the gate. "marks": the output is right while intermediate results are kept."""
    tensor: str = ""
    node: str = ""
    operator: str = ""
    module: str = ""
    """Path of the torch module."""
    figures: Figures | None = None
    """Of the tensor, as the engine computes it in the whole graph."""
    alone: Figures | None = None
    """Of the tensor, computed by the engine from the reference's values."""
    inputs: Mapping[str, float] = field(default_factory=dict)
    """What the tensor is made of, as far as the reference has it: name to deviation."""
    between: tuple[str, ...] = ()
    """Nodes from those inputs to the tensor, which the reference has no values of: any of them may be at fault."""
    operands: tuple[str, ...] = ()
    """Weights of the tensor's node and of the nodes between."""
    compared: int = 0
    """Tensors that the reference has a value for."""
    runs: int = 0
    """Of the engine's graph."""


def find_departure(call: Call, inside: Inside, canonical: OnnxGraph, network: Network, gate: Gate) -> Departure:
    """Searches one call.

    Args:
        call: of the reference: its inputs and its outputs.
        inside: what the engine runs.
        canonical: the bundle's canonical graph, which gives values their names.
        network: the reference's graph.
        gate: what counts as departed.

    Raises:
        EngineError: the engine cannot run its graph with marked outputs.
    """
    places = network.places(call.inputs)
    return _Search(call, inside, canonical, network, places, gate).search()


class _Search:
    def __init__(
        self,
        call: Call,
        inside: Inside,
        canonical: OnnxGraph,
        network: Network,
        places: Sequence[Place],
        gate: Gate,
    ) -> None:
        self._call, self._graph, self._settings, self._network = call, inside.graph, inside.settings, network
        self._canonical, self._gate, self._places = canonical, gate, places
        self._outputs = dict(call.outputs)
        counterparts = align(canonical.places(), places)
        self._index = {
            name: index
            for name, index in counterparts.items()
            if name in inside.graph.producers and name not in self._outputs
        }
        self._known: dict[str, Figures] = {}
        self._runs = 0
        pixels = max(math.prod(call.outputs[name].shape) // 4 for name in call.outputs)
        if call.graph in ("preprocess", "decode"):
            pixels //= 48  # of pictures: 3 channels, 64 pixels
        self._marks = max(1, min(_MOST_MARKS, _MARKED_BYTES // (2 * _WIDEST * max(pixels, 1))))

    def search(self) -> Departure:
        outputs = in_order(self._graph, [name for name in self._outputs if name in self._graph.producers])
        self._measure(outputs)
        departed = [name for name in outputs if not self._known[name].within(self._gate)]
        if not departed:
            return self._departure("marks", outputs[0])
        worst = max(self._known[name].deviation for name in departed)
        threshold, innocent = self._gate.deviation, ""
        while self._runs < _MOST_ROUNDS and threshold < worst:
            found = self._first(departed[0], threshold)
            alone = self._alone(found)
            if not alone.within(self._gate):
                return self._departure("tensor", found, alone)
            innocent = innocent or found
            if self._known[found].deviation >= worst:
                break
            threshold = _NOISE * self._known[found].deviation
        return self._departure("sum", innocent or departed[0])

    def _first(self, output: str, threshold: float) -> str:
        """The earliest tensor on the way to the output that departs while all that it is made of do not."""

        def departs(name: str) -> bool:
            return not self._known[name].deviation <= threshold

        suspect = output
        unsure = self._compared_ancestors(suspect)
        while self._runs < _MOST_ROUNDS:
            while unsure and self._runs < _MOST_ROUNDS:
                picked = _spread(unsure, self._marks)
                self._measure(picked)
                if bad := [name for name in picked if departs(name)]:
                    suspect = bad[0]
                    above = set(self._compared_ancestors(suspect))
                    unsure = [name for name in unsure if name in above]
                cleared = {name for name in picked if not departs(name)}
                for name in list(cleared):
                    cleared |= self._graph.ancestors(name)
                unsure = [name for name in unsure if name not in cleared and name not in picked]
            parents = self._frontier(suspect)[0]  # something clean may have hidden what another way brings in
            for start in range(0, len(parents), self._marks):
                self._measure(parents[start : start + self._marks])
            bad = [name for name in parents if departs(name)]
            if not bad:
                return suspect
            suspect = bad[0]
            unsure = [n for n in self._compared_ancestors(suspect) if n not in self._known or departs(n)]
        return suspect

    def _compared_ancestors(self, name: str) -> list[str]:
        return in_order(self._graph, [n for n in self._graph.ancestors(name) if self._has(n)])

    def _has(self, name: str) -> bool:
        """Whether the reference has a value for it."""
        return name in self._index or (name in self._outputs and name in self._graph.producers)

    def _frontier(self, name: str) -> tuple[list[str], list[str]]:
        """The nearest values before this one that the reference has, and the values in between, itself the last."""
        nearest, between, waiting = set(), {name}, self._graph.parents(name)
        while waiting:
            one = waiting.pop()
            if self._has(one):
                nearest.add(one)
            elif one in self._graph.producers and one not in between:
                between.add(one)
                waiting += self._graph.parents(one)
        return in_order(self._graph, nearest), in_order(self._graph, between)

    def _measure(self, names: Sequence[str]) -> None:
        """Runs the engine's graph as far as these tensors, and compares them."""
        if wanted := [name for name in names if name not in self._known]:
            values = self._values(wanted)
            session = Session(marked(self._graph, wanted), self._graph.folder, self._settings)
            self._known |= self._compared(session.run(self._call.inputs), values)
            self._runs += 1

    def _alone(self, name: str) -> Figures:
        """The tensor as the engine computes it from the reference's own values."""
        given = self._values(self._frontier(name)[0])
        cut = _cut(self._graph, {key: value.shape for key, value in given.items()})
        session = Session(marked(cut, [name]), cut.folder, self._settings)
        self._runs += 1
        results = session.run({**self._call.inputs, **{_given(self._graph, key): v for key, v in given.items()}})
        return self._compared(results, self._values([name]))[name]

    def _values(self, names: Sequence[str]) -> dict[str, Array]:
        """The reference's."""
        found = {name: self._outputs[name] for name in names if name in self._outputs}
        indices = {name: self._index[name] for name in names if name not in found}
        captured = self._network.capture(self._call.inputs, sorted(indices.values())) if indices else {}
        return found | {name: captured[index] for name, index in indices.items()}

    def _compared(self, results: Mapping[str, Array], references: Mapping[str, Array]) -> dict[str, Figures]:
        found = {}
        for name, reference in references.items():
            result = results[name]
            beside = self._outputs.get(ADDED_TO.get(name, ""))
            if result.shape == reference.shape:
                found[name] = compare(result, reference, spread=0.0 if beside is None else std(beside))
            else:
                found[name] = Figures(max_abs=math.inf, mean_abs=math.inf, deviation=math.inf, cosine=0.0)
        return found

    def _departure(self, verdict: str, name: str, alone: Figures | None = None) -> Departure:
        nearest, between = self._frontier(name)
        node = self._graph.producers[name]
        place = self._places[self._index[name]] if name in self._index else None
        named = self._canonical if name in self._canonical.producers else self._graph
        operands = [operand for one in between for operand in self._graph.operands(one)]
        return Departure(
            verdict=verdict,
            tensor=name,
            node=named.producers[name].name or node.name or f"the {node.op_type} that makes it",
            operator=named.producers[name].op_type,
            module=(place.module if place and place.module else named.modules().get(name, "")),
            figures=self._known.get(name),
            alone=alone,
            inputs={one: self._known[one].deviation for one in nearest if one in self._known},
            between=tuple(self._graph.producers[one].name or one for one in between[:-1]),
            operands=tuple(dict.fromkeys(operands)),
            compared=len(self._index),
            runs=self._runs,
        )


def _cut(graph: OnnxGraph, given: Mapping[str, Sequence[int]]) -> OnnxGraph:
    """The graph with these values, of these shapes, as further inputs instead of what makes them."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.node[:]
    for name, shape in given.items():
        entry = _given(graph, name)
        model.graph.input.append(helper.make_tensor_value_info(entry, TensorProto.FLOAT, shape))
        if entry != name:
            model.graph.node.append(helper.make_node("Cast", [entry], [name], to=TensorProto.FLOAT16))
    for node in graph.nodes:
        new = model.graph.node.add()
        new.CopyFrom(node)
        new.output[:] = [f"{name}.not_used" if name in given else name for name in node.output]
    return OnnxGraph(model, graph.folder)


def _given(graph: OnnxGraph, name: str) -> str:
    """The input's name through which a value is given in float32."""
    return f"{name}.given" if graph.types[name] == TensorProto.FLOAT16 else name


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Up to `count` of them, evenly apart."""
    if len(names) <= count:
        return list(names)
    return [names[(i + 1) * len(names) // (count + 1)] for i in range(count)]
