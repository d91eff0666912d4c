"""An ONNX graph that is being rewritten. In: a model without its external data. Out: the same model, changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

Rewrite = Callable[[onnx.NodeProto], list[onnx.NodeProto] | None]
"""The nodes that take a node's place, or None to keep it."""


class GraphEditor:
    """Who makes and who reads each value, and new constants; weights stay in the external file."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.index()

    def index(self) -> None:
        """Looks up producers, consumers and constants anew."""
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.consumers[name].append(node)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}

    def constant(self, name: str, values: object, dtype: type = np.float32) -> str:
        """A small constant of that name, made once; gives the name back."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values, dtype), name)
            self.graph.initializer.append(self.constants[name])
        return name

    def sole_consumer(self, value: str) -> onnx.NodeProto | None:
        """The one node that reads the value; None where there are more, or where it is an output."""
        readers = self.consumers[value]
        is_output = any(value == output.name for output in self.graph.output)
        return readers[0] if len(readers) == 1 and not is_output else None

    def rewrite(self, op_type: str, change: Rewrite) -> None:
        """Puts `change(node)` in the place of every node of that type, then drops what nothing reads any more."""
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            changed = change(node) if node.op_type == op_type else None
            nodes += [node] if changed is None else changed
        self.replace_nodes(nodes)

    def replace_nodes(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Keeps those of the nodes, and those constants, that the outputs need."""
        wanted, kept = {value.name for value in self.graph.output}, []
        for node in reversed(nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        del self.graph.node[:]
        self.graph.node.extend(kept[::-1])
        tensors = [tensor for tensor in self.graph.initializer if tensor.name in wanted]
        del self.graph.initializer[:]
        self.graph.initializer.extend(tensors)
        self.index()

    def use_domain(self, domain: str, version: int = 1) -> None:
        """States that operators of that domain are used."""
        if all(opset.domain != domain for opset in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(domain, version))


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """A node's attributes as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def write_form(model_path: Path, backend: str, rewrites: Sequence[Callable[[GraphEditor], None]]) -> Path | None:
    """Rewrites a canonical `model.onnx` and writes `model.BACKEND.onnx` beside it, on the same weights; None where
    nothing changes.

    Raises:
        ExportError: a node has a form that a rewrite does not know.
    """
    model = onnx.load(model_path, load_external_data=False)
    before = model.SerializeToString(deterministic=True)
    editor = GraphEditor(model)
    for rewrite in rewrites:
        rewrite(editor)
    if model.SerializeToString(deterministic=True) == before:
        return None
    path = model_path.with_name(f"model.{backend}.onnx")
    onnx.save(model, path)
    return path
