"""What ONNX Runtime's CUDA provider computes channels last, in a graph that is channels first around it.

`GroupNormalization`, and the SiLU behind it, become ONNX Runtime's own `com.microsoft.GroupNorm`: the CUDA provider has
no kernel for the standard operator and inlines its definition, a dozen kernels, casts to float32 among them, and shapes
that go through the CPU, so that no CUDA graph can be recorded. Its own operator normalises and activates in two kernels
and takes [B,H,W,C] alone.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from export.lowering.editor import GraphEditor, attributes

_DOMAIN = "com.microsoft"
_WIDEST_GROUP, _WIDEST_BLOCK = 256, 512
"""Channels: groups of less than the one share a block of threads, a block has at most the other. Source: ONNX Runtime,
contrib_ops/cuda/diffusion/group_norm_common_base.cc."""


def fuse_group_norm(editor: GraphEditor) -> None:
    """Rewrites every GroupNormalization node that the kernel takes, [B,C,H,W] in float32 or float16; others stay, and
    ONNX Runtime inlines them.
    """
    weights = {tensor.name: tensor for tensor in editor.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in editor.graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "GroupNormalization" else None
        groups = 0 if weight is None else int(str(attributes(node)["num_groups"]))
        if weight is not None and is_supported(weight.dims[0], groups):
            editor.use_domain(_DOMAIN)
            nodes += _fused(editor, node, groups, half=weight.data_type == TensorProto.FLOAT16)
        else:
            nodes.append(node)
    editor.replace_nodes(nodes)


def enlarge_channels_last(editor: GraphEditor) -> None:
    """Rewrites every Resize by nearest of [B,C,H,W]: ONNX Runtime's own change of layout leaves the operator as it is,
    though its CUDA kernel for nearest takes any axes.
    """
    nodes: list[onnx.NodeProto] = []
    for node in editor.graph.node:
        scales = _scales(editor, node)
        nodes += _enlarged(editor, node, scales) if scales else [node]
    editor.replace_nodes(nodes)


def _scales(editor: GraphEditor, node: onnx.NodeProto) -> list[float]:
    if node.op_type != "Resize" or attributes(node).get("mode") != b"nearest" or len(node.input) != 3:
        return []
    scales = editor.constants.get(node.input[2])
    values = [] if scales is None else numpy_helper.to_array(scales).tolist()
    return values if len(values) == 4 and values[:2] == [1.0, 1.0] else []


def _enlarged(editor: GraphEditor, node: onnx.NodeProto, scales: list[float]) -> list[onnx.NodeProto]:
    made = node.output[0]
    _, _, rows, columns = scales
    new = onnx.NodeProto()
    new.CopyFrom(node)
    new.input[:] = [f"{made}.small", "", editor.constant(f"scales_{rows:g}x{columns:g}", [1, rows, columns, 1])]
    new.output[:] = [f"{made}.large"]
    return [
        helper.make_node("Transpose", [node.input[0]], [f"{made}.small"], perm=[0, 2, 3, 1]),
        new,
        helper.make_node("Transpose", [f"{made}.large"], [made], perm=[0, 3, 1, 2]),
    ]


def is_supported(channels: int, groups: int) -> bool:
    """Whether ONNX Runtime's CUDA kernel normalises so many channels in so many groups: a thread takes two neighbouring
    channels of one group, a block whole groups, the blocks all channels.
    """
    if not groups or channels % groups or channels // groups % 2:
        return False
    width = channels // groups
    return width < _WIDEST_GROUP or width <= _WIDEST_BLOCK


def _fused(editor: GraphEditor, node: onnx.NodeProto, groups: int, *, half: bool) -> list[onnx.NodeProto]:
    x, *affine = node.input
    made = node.output[0]
    silu = _silu(editor, made)
    result = made if silu is None else silu.output[0]
    if silu is not None:
        del silu.output[:]
    widened = [f"{made}.{name}.float32" for name in affine] if half else affine
    casts = zip(affine, widened, strict=True) if half else ()
    return [
        *(helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT) for name, wide in casts),
        helper.make_node("Transpose", [x], [f"{made}.last"], perm=[0, 2, 3, 1]),
        helper.make_node(
            "GroupNorm",
            [f"{made}.last", *widened],
            [f"{made}.normal_last"],
            node.name,
            domain=_DOMAIN,
            groups=groups,
            epsilon=attributes(node).get("epsilon", 1e-5),
            activation=int(silu is not None),
            channels_last=1,
        ),
        helper.make_node("Transpose", [f"{made}.normal_last"], [result], perm=[0, 3, 1, 2]),
    ]


def _silu(editor: GraphEditor, value: str) -> onnx.NodeProto | None:
    """The last node of x * sigmoid(x), where nothing else reads the value."""
    readers = editor.consumers[value]
    if {node.op_type for node in readers} != {"Sigmoid", "Mul"} or len(readers) != 2:
        return None
    sigmoid, product = sorted(readers, key=lambda node: node.op_type, reverse=True)
    alone = editor.sole_consumer(sigmoid.output[0]) is product
    return product if alone and set(product.input) == {value, sigmoid.output[0]} else None
