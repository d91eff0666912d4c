"""An fp16 graph with islands of float32, for TensorRT: a strongly typed network computes in what the file says. In: a
graph, and the values that fp16 cannot be trusted with. Out: the same graph, which makes them in float32, on the same
weights file.

Casts stand where data enter an island and where they leave it; weights stay fp16 in the file and are cast in the graph,
which TensorRT does once, when it builds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx
from onnx import TensorProto, helper

from export.lowering.editor import GraphEditor
from export.lowering.widen import widen_attributes
from export.verifying.onnx_graph import OnnxGraph

_DELICATE = """
    Attention GlobalAveragePool GroupNormalization InstanceNormalization LayerNormalization LpNormalization
    MeanVarianceNormalization RMSNormalization ReduceL1 ReduceL2 ReduceLogSumExp ReduceMean ReduceProd ReduceSum
    ReduceSumSquare Softmax
"""
DELICATE = frozenset(_DELICATE.split())
"""Norms, attention and reductions: sums of many terms, whose inside may leave fp16's range where no value does."""
_SCALES = frozenset({"Add", "Cast", "Div", "Mul", "Where"})
"""What may stand between an attention's scores and its softmax, where it is written out."""


def delicate_values(graph: OnnxGraph) -> list[str]:
    """What `DELICATE` operators make, and the matrix products that a softmax is taken of."""
    found = {name for name in graph.results if graph.producers[name].op_type in DELICATE}
    waiting = [p for name in found if graph.producers[name].op_type == "Softmax" for p in graph.parents(name)]
    while waiting:
        name = waiting.pop()
        node = graph.producers.get(name)
        if node is None or name in found or node.op_type not in _SCALES | {"MatMul"}:
            continue
        found.add(name)
        if node.op_type != "MatMul":
            waiting += graph.parents(name)
    return [name for name in graph.results if name in found]


def around(graph: OnnxGraph, values: Collection[str]) -> list[str]:
    """The values themselves, and what is made of them: both their makers and their readers have to be wide."""
    wanted = set(values)
    return [name for name in graph.results if name in wanted or wanted.intersection(graph.parents(name))]


def make_islands(graph: OnnxGraph, values: Collection[str]) -> onnx.ModelProto:
    """A copy of the graph that makes these values in float32; among themselves they are handed on so, others read them
    rounded to fp16.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    halves = {name for name, kind in graph.types.items() if kind == TensorProto.FLOAT16}
    widened: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if not any(name in values for name in node.output):
            continue
        for i, name in enumerate(node.input):
            if name in halves:
                if name not in widened:
                    nodes.insert(-1, helper.make_node("Cast", [name], [_wide(name)], to=TensorProto.FLOAT))
                    widened.add(name)
                node.input[i] = _wide(name)
        widen_attributes(node)
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16:
            node.attribute[0].i = TensorProto.FLOAT
        made = [name for name in node.output if name in halves]
        node.output[:] = [_wide(name) if name in halves else name for name in node.output]
        widened.update(made)
        nodes += [helper.make_node("Cast", [_wide(name)], [name], to=TensorProto.FLOAT16) for name in made]
    GraphEditor(model).replace_nodes(nodes)  # without the casts that nobody outside reads
    return model


def names_of(graph: OnnxGraph, values: Sequence[str]) -> list[str]:
    """The nodes that make the values, by their names; by the value's where a node has none."""
    return [graph.producers[name].name or name for name in values]


def _wide(name: str) -> str:
    return f"{name}.wide"
