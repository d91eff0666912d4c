"""A graph for CUDA alone made fit for any CPU, to check what it computes. In: a graph in CUDA's form.
Out: the same with standard ones in their place.

`com.microsoft.GroupNorm` has no kernel on a CPU, `com.microsoft.MultiHeadAttention` none in float16 there. Both keep
their sums in float32 on CUDA, and so they do here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from export.lowering.editor import GraphEditor, attributes


def expand_for_cpu(editor: GraphEditor) -> None:
    """Replaces every GroupNorm, and gives every MultiHeadAttention of a float16 graph float32 values."""
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in editor.graph.initializer)
    editor.rewrite("GroupNorm", lambda node: _group_norm(node, half=half))
    if half:
        editor.rewrite("MultiHeadAttention", _attention)


@contextlib.contextmanager
def expanded(path: Path) -> Iterator[Path]:
    """The file's expanded form, on the same weights beside it for as long as the block takes."""
    model = onnx.load(path, load_external_data=False)
    expand_for_cpu(GraphEditor(model))
    written = path.with_name(f"{path.stem}.expanded.onnx")
    try:
        onnx.save(model, written)
        yield written
    finally:
        written.unlink(missing_ok=True)


def _group_norm(node: onnx.NodeProto, *, half: bool) -> list[onnx.NodeProto]:
    x, scale, bias = node.input
    made = node.output[0]
    found = attributes(node)
    steps: list[tuple[str, dict[str, Any]]] = [("Cast", {"to": TensorProto.FLOAT})] if half else []
    steps += [("Transpose", {"perm": [0, 3, 1, 2]})]
    steps += [("GroupNormalization", {"num_groups": found["groups"], "epsilon": found["epsilon"]})]
    steps += [("SiLU", {})] if found["activation"] else []
    steps += [("Transpose", {"perm": [0, 2, 3, 1]})]
    steps += [("Cast", {"to": TensorProto.FLOAT16})] if half else []
    nodes, value = [], x
    for number, (kind, settings) in enumerate(steps, start=1):
        result = made if number == len(steps) else f"{made}.{number}"
        if kind == "SiLU":
            nodes.append(helper.make_node("Sigmoid", [value], [f"{result}.sigmoid"]))
            nodes.append(helper.make_node("Mul", [value, f"{result}.sigmoid"], [result]))
        else:
            inputs = [value, scale, bias] if kind == "GroupNormalization" else [value]
            nodes.append(helper.make_node(kind, inputs, [result], **settings))
        value = result
    return nodes


def _attention(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    made = node.output[0]
    wide = onnx.NodeProto()
    wide.CopyFrom(node)
    wide.input[:] = [f"{made}.{letter}" for letter in "qkv"]
    wide.output[:] = [f"{made}.wide"]
    casts = zip(node.input, wide.input, strict=True)
    return [
        *(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT) for half, name in casts),
        wide,
        helper.make_node("Cast", [f"{made}.wide"], [made], to=TensorProto.FLOAT16),
    ]
