"""Enlarging twice by nearest and a 3x3 convolution as four 2x2 convolutions of the small picture.

Of the nine pixels under the kernel only four differ, so the kernel's rows and columns can be added up beforehand: one
2x2 kernel for each of the four positions of the result's pixels, 4/9 of the multiplications. ONNX Runtime adds them up
when it folds constants at load; the bundle holds no second copy. Source: sub-pixel convolution (arXiv:1609.05158).
"""

from __future__ import annotations

import itertools

import onnx
from onnx import helper, numpy_helper

from export.lowering.editor import GraphEditor, attributes

_ROWS = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))
"""Which of the kernel's rows fall on each of two pixels, for the upper and the lower of two result rows."""


def split_upsampling(editor: GraphEditor) -> None:
    """Rewrites every Resize by 2 (nearest) that one 3x3 convolution with a margin of 1 follows."""
    for node in list(editor.graph.node):
        convolution = editor.sole_consumer(node.output[0]) if _doubles(editor, node) else None
        if convolution is not None and _is_plain(editor, convolution):
            _split(editor, node.input[0], convolution)


def _doubles(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    if node.op_type != "Resize" or len(node.input) < 3 or node.input[2] not in editor.constants:
        return False
    scales = numpy_helper.to_array(editor.constants[node.input[2]]).tolist()
    return attributes(node).get("mode") == b"nearest" and scales == [1.0, 1.0, 2.0, 2.0]


def _is_plain(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    if node.op_type != "Conv":
        return False
    found = attributes(node)
    weight = editor.constants.get(node.input[1])
    if weight is None and (made := editor.producers.get(node.input[1])) is not None:  # widened from fp16
        weight = editor.constants.get(made.input[0])
    return (
        weight is not None
        and list(weight.dims[2:]) == [3, 3]
        and found.get("pads") == [1, 1, 1, 1]
        and found.get("group", 1) == 1
        and found.get("strides", [1, 1]) == [1, 1]
        and found.get("dilations", [1, 1]) == [1, 1]
    )


def _split(editor: GraphEditor, x: str, convolution: onnx.NodeProto) -> None:
    weight, made = convolution.input[1], convolution.output[0]
    rows = [editor.constant(f"kernel_rows_{a}", _ROWS[a]) for a in (0, 1)]
    columns = [editor.constant(f"kernel_columns_{b}", list(zip(*_ROWS[b], strict=True))) for b in (0, 1)]
    new = [helper.make_node("MatMul", [rows[a], weight], [f"{made}.rows{a}"]) for a in (0, 1)]
    results = []
    for a, b in itertools.product((0, 1), repeat=2):
        kernel, result = f"{made}.kernel{a}{b}", f"{made}.result{a}{b}"
        results.append(result)
        new.append(helper.make_node("MatMul", [f"{made}.rows{a}", columns[b]], [kernel]))
        new.append(
            helper.make_node(
                "Conv",
                [x, kernel, *convolution.input[2:]],
                [result],
                f"{convolution.name}.{a}{b}",
                kernel_shape=[2, 2],
                pads=[1 - a, 1 - b, a, b],
            )
        )
    new.append(helper.make_node("Concat", results, [f"{made}.results"], axis=1))
    new.append(helper.make_node("DepthToSpace", [f"{made}.results"], [made], blocksize=2, mode="DCR"))
    nodes = list(editor.graph.node)
    at = next(i for i, node in enumerate(nodes) if made in node.output)
    editor.replace_nodes([*nodes[:at], *new, *nodes[at + 1 :]])
