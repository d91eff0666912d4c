"""An fp16 graph as a device computes it, on any CPU. In: a canonical fp16 graph. Out: a float32 graph that rounds every
value to fp16 where the file says fp16; values of an island are left in float32.

ONNX Runtime's CPU provider computes fp16 graphs in float32 and mostly leaves the rounding out, so that a value beyond
65,504 passes unseen. Inside one operator (a convolution's sums, a normalization, attention) nothing is rounded here.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from export.verifying.onnx_graph import OnnxGraph

LARGEST = 65504.0
"""fp16's largest number."""

_MOVES = {"Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose"}
_MOVES |= {"Unsqueeze"}
"""Operators whose results are values of their inputs, which are rounded already."""


def rounded(graph: OnnxGraph, island: Collection[str] = ()) -> OnnxGraph:
    """The graph in float32, its fp16 values rounded; the inputs' and results' names stay.

    Args:
        graph: of a canonical file; one without fp16 comes out as it is.
        island: values that are computed and handed on among themselves in float32, and rounded where others read them.
    """
    if TensorProto.FLOAT16 not in graph.types.values():
        return graph
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    widened: set[str] = set()
    for tensor in graph.model.graph.initializer:
        model.graph.initializer.append(_widened(tensor) if tensor.data_location != TensorProto.EXTERNAL else tensor)
    halves = {
        t.name
        for t in graph.model.graph.initializer
        if t.data_type == TensorProto.FLOAT16 and t.data_location == TensorProto.EXTERNAL
    }
    kept: set[str] = set()
    """Values that are there unrounded too, for others of the island."""
    for node in graph.nodes:
        inside = any(name in island for name in node.output)
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for i, name in enumerate(node.input):
            if name in halves:
                if name not in widened:  # beside its first reader, so that few are there at once
                    model.graph.node.append(helper.make_node("Cast", [name], [f"{name}.float32"], to=TensorProto.FLOAT))
                    widened.add(name)
                new.input[i] = f"{name}.float32"
            elif inside and name in kept:
                new.input[i] = _wide(name)
        _in_float32(new, graph)
        made = [name for name in node.output if graph.types.get(name) == TensorProto.FLOAT16]
        if not made or (node.op_type in _MOVES and not inside):
            model.graph.node.append(new)
            continue
        new.output[:] = [_wide(name) if name in made else name for name in node.output]
        model.graph.node.append(new)
        for name in made:
            model.graph.node.append(helper.make_node("Cast", [_wide(name)], [_half(name)], to=TensorProto.FLOAT16))
            model.graph.node.append(helper.make_node("Cast", [_half(name)], [name], to=TensorProto.FLOAT))
        if inside:
            kept.update(made)
    return OnnxGraph(model, graph.folder)


def _wide(name: str) -> str:
    return f"{name}.unrounded"


def _half(name: str) -> str:
    return f"{name}.rounded"


def _in_float32(node: onnx.NodeProto, graph: OnnxGraph) -> None:
    """Changes what the node says of fp16: constants in its attributes, and casts, whose rounding comes after them."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            attribute.t.CopyFrom(_widened(attribute.t))
    if node.op_type != "Cast" or node.attribute[0].i not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        return
    if graph.types.get(node.input[0]) in (TensorProto.FLOAT, TensorProto.FLOAT16):
        node.op_type = "Identity"
        del node.attribute[:]
    else:
        node.attribute[0].i = TensorProto.FLOAT


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
