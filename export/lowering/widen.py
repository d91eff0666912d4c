"""A half-precision graph computed in float32: the weights stay fp16 in the file and are widened when it is opened.

ONNX Runtime's CPU provider has almost no fp16 kernels: it computes in float32 anyway and rounds every intermediate back
to fp16, cast by cast.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.lowering.editor import GraphEditor


def widen(editor: GraphEditor) -> None:
    """Makes every fp16 value of the graph float32; nothing to do where there is none."""
    halves = [t for t in editor.graph.initializer if t.data_type == TensorProto.FLOAT16]
    if not halves:
        return
    names, casts = {}, []
    for tensor in halves:
        if tensor.data_location == TensorProto.EXTERNAL:
            names[tensor.name] = f"{tensor.name}.float32"
            casts.append(helper.make_node("Cast", [tensor.name], [names[tensor.name]], to=TensorProto.FLOAT))
        else:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    outputs = {value.name for value in editor.graph.output}
    nodes = []
    for node in editor.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        widen_attributes(node)
        if _is_cast(node) and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
        elif _is_cast(node):
            nodes.append(helper.make_node("Identity", node.input, node.output, node.name))
        else:
            nodes.append(node)
    editor.replace_nodes([*casts, *nodes])


def widen_attributes(node: onnx.NodeProto) -> None:
    """Makes the constants in a node's attributes float32."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT16:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32)))


def _is_cast(node: onnx.NodeProto) -> bool:
    """A cast between the two floating types: every other stays (exports have none from integers to these)."""
    return node.op_type == "Cast" and node.attribute[0].i in (TensorProto.FLOAT, TensorProto.FLOAT16)
