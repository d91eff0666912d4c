"""`GroupNormalization` as InstanceNormalization over the groups, then a scale and a shift for each channel.

ONNX Runtime's CPU provider has no kernel for the operator and inlines its definition: a dozen passes over the tensor,
two of them casts from float32 to itself. InstanceNormalization has a kernel that takes mean and variance in one place.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from export.lowering.editor import GraphEditor, attributes


def split_group_norm(editor: GraphEditor) -> None:
    """Rewrites every GroupNormalization node, float32 [B,C,H,W]."""
    editor.rewrite("GroupNormalization", lambda node: _split(editor, node))


def _split(editor: GraphEditor, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    x, scale, bias = node.input
    found = attributes(node)
    groups = int(str(found["num_groups"]))
    by_group = editor.constant(f"groups_{groups}", [0, groups, -1], np.int64)
    by_channel = editor.constant("channels_first", [1, -1, 1, 1], np.int64)
    ones = editor.constant(f"ones_{groups}", np.ones(groups))
    zeros = editor.constant(f"zeros_{groups}", np.zeros(groups))
    made = node.output[0]
    return [
        helper.make_node("Reshape", [x, by_group], [f"{made}.groups"]),
        helper.make_node(
            "InstanceNormalization",
            [f"{made}.groups", ones, zeros],
            [f"{made}.normal_groups"],
            node.name,
            epsilon=found.get("epsilon", 1e-5),
        ),
        helper.make_node("Shape", [x], [f"{made}.shape"]),
        helper.make_node("Reshape", [f"{made}.normal_groups", f"{made}.shape"], [f"{made}.normal"]),
        helper.make_node("Reshape", [scale, by_channel], [f"{made}.scale"]),
        helper.make_node("Reshape", [bias, by_channel], [f"{made}.bias"]),
        helper.make_node("Mul", [f"{made}.normal", f"{made}.scale"], [f"{made}.scaled"]),
        helper.make_node("Add", [f"{made}.scaled", f"{made}.bias"], [made]),
    ]
