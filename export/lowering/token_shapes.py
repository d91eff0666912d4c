"""Feature maps to tokens and back without arithmetic on shapes, which would run on the CPU between copies: what holds
such copies cannot be recorded as a CUDA graph.

    [B,C,H,W] to [B,H*W,C]     channels last, then a reshape to the constant (0, -1, C)
    [B,H*W,C] to [B,C,H,W]     a reshape to the shape of a channels-last tensor of the same map, then channels first
    [1,...] to [B,...]         an expansion to the shape of the first input's first pixels, [B,1,1,1]

For after `export.lowering.channels_last`, whose tensors the shapes are taken from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.lowering.editor import GraphEditor, attributes

_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_TOKENS = [0, 2, 1]
_PIXEL = "first_pixels"


def take_shapes_from_tensors(editor: GraphEditor) -> None:
    """Rewrites every such reshape and expansion; what is not known here stays."""
    normal = _normalised(editor)
    nodes: list[onnx.NodeProto] = []
    for node in editor.graph.node:
        changed = None
        if node.op_type == "Reshape":
            changed = _to_tokens(editor, node) or _to_map(editor, node, normal)
        elif node.op_type == "Expand" and _parts(editor, node.input[1]) == [None, 1, 1, 1]:
            changed = [helper.make_node("Expand", [node.input[0], f"{_PIXEL}.shape"], node.output, node.name)]
        nodes += [node] if changed is None else changed
    editor.replace_nodes([*_pixels(editor), *nodes])


def _parts(editor: GraphEditor, name: str) -> list[int | None]:
    """A shape that is put together of pieces of one number, None for those that are not constant."""
    made = editor.producers.get(name)
    if made is None or made.op_type != "Concat":
        return []
    pieces = [numpy_helper.to_array(editor.constants[i]) if i in editor.constants else None for i in made.input]
    return [None if piece is None else int(piece[0]) for piece in pieces]


def _to_tokens(editor: GraphEditor, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """The reshape of [B,H,W,C], or of [B,C,H,W] where a transpose follows."""
    made = node.output[0]
    match _parts(editor, node.input[1]):
        case [None, None, int(channels)] if _permutes(editor.producers.get(node.input[0]), _LAST):
            source, result, first = node.input[0], made, []
        case [None, int(channels), None]:
            follower = editor.sole_consumer(made)
            if follower is None or not _permutes(follower, _TOKENS):
                return None
            source, result = f"{made}.last", follower.output[0]
            del follower.output[:]
            first = [helper.make_node("Transpose", [node.input[0]], [source], perm=_LAST)]
        case _:
            return None
    target = editor.constant(f"tokens_{channels}", [0, -1, channels], np.int64)
    return [*first, helper.make_node("Reshape", [source, target], [result], node.name)]


def _to_map(editor: GraphEditor, node: onnx.NodeProto, normal: dict[str, str]) -> list[onnx.NodeProto] | None:
    """The reshape to [B,H,W,C], or to [B,C,H,W] behind a transpose, and added to a normalised map."""
    before, made = editor.producers.get(node.input[0]), node.output[0]
    match _parts(editor, node.input[1]):
        case [None, None, None, int()]:
            tokens, reshaped, then = node.input[0], made, []
            after = editor.sole_consumer(made)
            if after is None or not _permutes(after, _FIRST):
                return None
            result = after.output[0]
        case [None, int(), None, None] if before is not None and _permutes(before, _TOKENS):
            tokens, reshaped, result = before.input[0], f"{made}.last", made
            then = [helper.make_node("Transpose", [reshaped], [result], perm=_FIRST)]
        case _:
            return None
    last = normal.get(_added_to(editor, result))
    if last is None:
        return None
    return [
        helper.make_node("Shape", [last], [f"{made}.shape"]),
        helper.make_node("Reshape", [tokens, f"{made}.shape"], [reshaped], node.name),
        *then,
    ]


def _added_to(editor: GraphEditor, value: str) -> str:
    """What a map is added to, maybe behind a convolution that keeps its sides; empty where nothing is."""
    reader = editor.sole_consumer(value)
    if reader is not None and reader.op_type == "Conv" and attributes(reader).get("kernel_shape") == [1, 1]:
        value = reader.output[0]
        reader = editor.sole_consumer(value)
    if reader is None or reader.op_type != "Add":
        return ""
    return next((str(name) for name in reader.input if name != value), "")


def _normalised(editor: GraphEditor) -> dict[str, str]:
    """A map to its normalised form with the channels last."""
    found = {}
    for node in editor.graph.node:
        if node.op_type == "GroupNorm" and _permutes(source := editor.producers.get(node.input[0]), _LAST):
            assert source is not None
            found[source.input[0]] = node.output[0]
    return found


def _pixels(editor: GraphEditor) -> list[onnx.NodeProto]:
    """Nodes that make the shape [B,1,1,1] of the first input."""
    ones, zeros = (editor.constant(f"{_PIXEL}.{n}", [n, n, n], np.int64) for n in (1, 0))
    axes = editor.constant(f"{_PIXEL}.axes", [1, 2, 3], np.int64)
    return [
        helper.make_node("Slice", [editor.graph.input[0].name, zeros, ones, axes], [_PIXEL]),
        helper.make_node("Shape", [_PIXEL], [f"{_PIXEL}.shape"]),
    ]


def _permutes(node: onnx.NodeProto | None, order: Sequence[int]) -> bool:
    return node is not None and node.op_type == "Transpose" and attributes(node).get("perm") == list(order)
