"""A graph rewritten for TensorRT 10.12 and 10.13, whose parser does not know `Attention` and opset 23. In: a canonical
`model.onnx`. Out: `model.tensorrt-10.12.onnx` on the same weights, on any machine.

GroupNormalization stays whole: that of opset 21, with a scale for each channel, is read from TensorRT 10.9 on (its
parser's changelog). All other operators of the exported graphs mean the same at opset 21 as at 23.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.lowering.editor import GraphEditor, attributes, write_form

BACKEND = "tensorrt-10.12"
LOWERED = f"model.{BACKEND}.onnx"
OPSET = 21


def write_out_attention(editor: GraphEditor) -> None:
    """Rewrites every Attention node as softmax(q * k) * v.

    Queries and keys are multiplied by the root of the scale before their product, and not the product by the scale: it
    would be 8 times as large (22 times in the full-size autoencoder), and so much nearer to half precision's infinity.
    NVIDIA asks for this where the nodes are to become one kernel ("Fused Attention" in its documentation), and its
    parser does the same with `Attention`. Softmax stays in the graph's precision, as in `Attention`.

    Raises:
        ExportError: one has a form that is not known here.
    """
    editor.rewrite("Attention", lambda node: _written_out(editor, node))


def lower_opset(editor: GraphEditor) -> None:
    """States opset 21."""
    for opset in editor.model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = OPSET


REWRITES = (write_out_attention, lower_opset)
"""In this order."""


def lower(model_path: Path) -> Path | None:
    """Writes the lowered file beside the canonical one; None where there is nothing to rewrite.

    Raises:
        ExportError: an Attention node has a form that is not known here.
    """
    return write_form(model_path, BACKEND, REWRITES)


def _written_out(editor: GraphEditor, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    found = attributes(node)
    changes = ("softcap", "is_causal", "qk_matmul_output_mode", "softmax_precision", "q_num_heads", "kv_num_heads")
    width = next(filter(None, (_width(editor, name) for name in node.input[:2])), None)
    if len(node.input) > 3 or len(node.output) > 1 or any(found.get(name) for name in changes) or width is None:
        raise ExportError(
            f"cannot lower the attention node {node.name} for TensorRT before 10.14; export with the torch version of "
            "constraints.txt"
        )
    scale = float(str(found.get("scale") or width**-0.5))
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in editor.graph.initializer)
    root = editor.constant(f"root_of_{scale:.9g}", scale**0.5, np.float16 if half else np.float32)
    query, key, value = node.input
    made = node.output[0]
    return [
        helper.make_node("Mul", [query, root], [f"{made}.query"]),
        helper.make_node("Mul", [key, root], [f"{made}.key"]),
        helper.make_node("Transpose", [f"{made}.key"], [f"{made}.key_last"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", [f"{made}.query", f"{made}.key_last"], [f"{made}.logits"], f"{node.name}.logits"),
        helper.make_node("Softmax", [f"{made}.logits"], [f"{made}.weights"], f"{node.name}.softmax", axis=-1),
        helper.make_node("MatMul", [f"{made}.weights", value], [made], node.name),
    ]


def _width(editor: GraphEditor, name: str) -> int | None:
    """The last side of queries or keys; None where it cannot be told."""
    if name in editor.constants:
        return int(editor.constants[name].dims[-1])
    node = editor.producers.get(name)
    if node is None:
        return None
    match node.op_type:
        case "Reshape":
            return _last_number(editor, node.input[1])
        case "MatMul":
            return _width(editor, node.input[1])
        case "Add":
            return next(filter(None, (_width(editor, name) for name in reversed(node.input))), None)
        case "Transpose" if attributes(node).get("perm") == [0, 2, 1, 3]:
            return _width(editor, node.input[0])
        case "Unsqueeze" | "Expand":
            return _width(editor, node.input[0])
    return None


def _last_number(editor: GraphEditor, shape: str) -> int | None:
    made = editor.producers.get(shape)
    tensor = editor.constants.get(made.input[-1] if made is not None and made.op_type == "Concat" else shape)
    last = -1 if tensor is None else int(numpy_helper.to_array(tensor).reshape(-1)[-1])
    return last if last > 0 else None
