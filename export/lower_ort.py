"""A graph rewritten for ONNX Runtime. In: a canonical `model.onnx`. Out: `model.onnxruntime.onnx` on the same weights.

ONNX Runtime's CPU kernel of `Attention` writes out the whole attention matrix: 58,880 latent pixels (a 640x360 photo)
would take 14 GB a head. Its `com.microsoft.MultiHeadAttention` works through the matrix in blocks of the cache's size,
in a few megabytes and somewhat faster (`benchmarks/attention.py`); it takes queries as [B,N,heads*d], so the transposes
go as well.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

from export.errors import ExportError

BACKEND = "onnxruntime"
LOWERED = "model.onnxruntime.onnx"
_DOMAIN = "com.microsoft"


def lower(model_path: Path) -> Path | None:
    """Writes the lowered file beside the canonical one; None where the graph has no attention to lower.

    Raises:
        ExportError: an Attention node has a form that is not known here.
    """
    model = onnx.load(model_path, load_external_data=False)
    if not any(node.op_type == "Attention" for node in model.graph.node):
        return None
    _Lowering(model).run()
    path = model_path.with_name(LOWERED)
    onnx.save(model, path)
    return path


class _Lowering:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.consumers[name].append(node)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}

    def run(self) -> None:
        """Rewrites every node, then takes out what nothing uses any more."""
        nodes = [self._rewritten(n) if n.op_type == "Attention" else n for n in self.graph.node]
        del self.graph.node[:]
        self.graph.node.extend(_used(nodes, {value.name for value in self.graph.output}))
        wanted = {name for node in self.graph.node for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in wanted]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        self.model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))

    def _rewritten(self, node: onnx.NodeProto) -> onnx.NodeProto:
        heads = self._heads(node)
        query = self._tokens(node.input[0])
        key, value = (self._tokens(name) for name in node.input[1:3])
        if key is None or value is None:  # the prompt's constants, which the operator takes as [B,heads,N,d]
            key, value = node.input[1:3]
        end = self.consumers[node.output[0]]
        if len(end) == 1 and end[0].op_type == "Transpose":
            end = self.consumers[end[0].output[0]]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = not any(attributes.get(name) for name in ("softcap", "is_causal", "qk_matmul_output_mode"))
        joined = len(end) == 1 and end[0].op_type in ("Reshape", "Squeeze")
        if query is None or len(node.input) > 3 or not plain or not joined:
            raise ExportError(
                f"cannot lower the attention node {node.name} for ONNX Runtime; export with the torch version of "
                "constraints.txt"
            )
        scale = {"scale": attributes["scale"]} if "scale" in attributes else {}
        output = end[0].output[0]
        del end[0].output[:]
        return helper.make_node(
            "MultiHeadAttention",
            [query, key, value],
            [output],
            node.name,
            domain=_DOMAIN,
            num_heads=heads,
            **scale,
        )

    def _heads(self, node: onnx.NodeProto) -> int:
        """From the reshape in front of the queries, whose target ends in (heads, d)."""
        node = self.producers[node.input[0]]
        if node.op_type == "Unsqueeze":
            return 1
        reshape = self.producers.get(node.input[0])
        name = reshape.input[1] if reshape is not None and reshape.op_type == "Reshape" else ""
        index = -2
        if (target := self.producers.get(name)) is not None and target.op_type == "Concat":
            name, index = target.input[-2], 0
        if name not in self.constants:
            raise ExportError(
                f"the attention behind {node.name} has no known number of heads; export with the torch version of "
                "constraints.txt"
            )
        return int(numpy_helper.to_array(self.constants[name])[index])

    def _tokens(self, name: str) -> str | None:
        """[B,N,C] behind a [B,heads,N,d], where it was only taken apart."""
        node = self.producers.get(name)
        if node is not None and node.op_type == "Unsqueeze":
            return str(node.input[0])
        if node is None or node.op_type != "Transpose" or list(node.attribute[0].ints) != [0, 2, 1, 3]:
            return None
        source = self.producers.get(node.input[0])
        return str(source.input[0]) if source is not None and source.op_type == "Reshape" else None


def _used(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs need, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
