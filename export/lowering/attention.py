"""`Attention` as ONNX Runtime's own `com.microsoft.MultiHeadAttention`.

ONNX Runtime's CPU kernel of `Attention` writes out the whole attention matrix: 58,880 latent pixels (a 640x360 photo)
would take 14 GB a head. Its own operator works through the matrix in blocks of the cache's size, in a few megabytes and
somewhat faster (`benchmarks/attention.py`); it takes queries as [B,N,heads*d], so the transposes go as well.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper, numpy_helper

from export.errors import ExportError
from export.lowering.editor import GraphEditor, attributes

_DOMAIN = "com.microsoft"


def fuse_attention(editor: GraphEditor) -> None:
    """Rewrites every Attention node.

    Raises:
        ExportError: one has a form that is not known here.
    """
    if any(node.op_type == "Attention" for node in editor.graph.node):
        editor.use_domain(_DOMAIN)
        editor.rewrite("Attention", lambda node: [_fused(editor, node)])


def _fused(editor: GraphEditor, node: onnx.NodeProto) -> onnx.NodeProto:
    heads = _heads(editor, node)
    query = _tokens(editor, node.input[0])
    key, value = (_tokens(editor, name) for name in node.input[1:3])
    if key is None or value is None:  # the prompt's constants, which the operator takes as [B,heads,N,d]
        key, value = node.input[1:3]
    end = editor.consumers[node.output[0]]
    if len(end) == 1 and end[0].op_type == "Transpose":
        end = editor.consumers[end[0].output[0]]
    found = attributes(node)
    plain = not any(found.get(name) for name in ("softcap", "is_causal", "qk_matmul_output_mode"))
    joined = len(end) == 1 and end[0].op_type in ("Reshape", "Squeeze")
    if query is None or len(node.input) > 3 or not plain or not joined:
        raise ExportError(
            f"cannot lower the attention node {node.name} for ONNX Runtime; export with the torch version of "
            "constraints.txt"
        )
    scale: dict[str, Any] = {"scale": found["scale"]} if "scale" in found else {}
    output = end[0].output[0]
    del end[0].output[:]
    return helper.make_node(
        "MultiHeadAttention", [query, key, value], [output], node.name, domain=_DOMAIN, num_heads=heads, **scale
    )


def _heads(editor: GraphEditor, node: onnx.NodeProto) -> int:
    """From the reshape in front of the queries, whose target ends in (heads, d)."""
    node = editor.producers[node.input[0]]
    if node.op_type == "Unsqueeze":
        return 1
    reshape = editor.producers.get(node.input[0])
    name = reshape.input[1] if reshape is not None and reshape.op_type == "Reshape" else ""
    index = -2
    if (target := editor.producers.get(name)) is not None and target.op_type == "Concat":
        name, index = target.input[-2], 0
    if name not in editor.constants:
        raise ExportError(
            f"the attention behind {node.name} has no known number of heads; export with the torch version of "
            "constraints.txt"
        )
    return int(numpy_helper.to_array(editor.constants[name])[index])


def _tokens(editor: GraphEditor, name: str) -> str | None:
    """[B,N,C] behind a [B,heads,N,d], where it was only taken apart."""
    node = editor.producers.get(name)
    if node is not None and node.op_type == "Unsqueeze":
        return str(node.input[0])
    if node is None or node.op_type != "Transpose" or list(node.attribute[0].ints) != [0, 2, 1, 3]:
        return None
    source = editor.producers.get(node.input[0])
    return str(source.input[0]) if source is not None and source.op_type == "Reshape" else None
