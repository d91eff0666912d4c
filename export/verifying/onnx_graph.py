"""An ONNX graph read for comparison. In: a model file. Out: who makes each value, of which type, from what, and where
in the network. Weights stay in the external file and are read one at a time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export.figures import Array

_BOOLEAN = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "IsNaN", "IsInf"}
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


@dataclass(frozen=True, kw_only=True)
class Place:
    """An intermediate result as it can be recognised in another form of the same network: two are the same where they
    are equal and stand in the same order.
    """

    stem: str
    """What makes it: the name of the torch operation, without its number."""
    parameters: tuple[str, ...] = ()
    """The weights that it is made with, by the names of torch's modules."""
    name: str = field(default="", compare=False)
    """In this graph, where it has one."""
    operands: tuple[str, ...] = field(default=(), compare=False)
    """Every weight that it is made with, by its name in this graph."""
    module: str = field(default="", compare=False)
    """Path of the torch module that it comes from."""


class OnnxGraph:
    """A model without its external data, and what is known of its values."""

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        self.model = model
        self.folder = folder
        """Of the external data."""
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._stored = {name: name for name in self.constants} | {
            node.output[0]: node.input[0]
            for node in self.nodes
            if node.op_type == "Cast" and node.input[0] in self.constants
        }
        """Constants, and what they are called once they are widened, to the constant."""
        self.inputs = [value.name for value in model.graph.input if value.name not in self.constants]
        self.types = self._value_types()
        """Value to ONNX's number of its element type."""
        self._reached = self._dependent()

    @property
    def results(self) -> list[str]:
        """Every floating value that a node makes of the inputs, in the order of the nodes."""
        return [name for name in self.producers if self.types[name] in _FLOATS and name in self._reached]

    def parents(self, name: str) -> list[str]:
        """The values that the value is made of, constants left out."""
        node = self.producers.get(name)
        return [] if node is None else [n for n in node.input if n and n not in self._stored]

    def ancestors(self, name: str) -> set[str]:
        """Every value that the value is made of, itself left out."""
        found: set[str] = set()
        waiting = self.parents(name)
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self.parents(one)
        return found

    def operands(self, name: str) -> tuple[str, ...]:
        """The constants that the value is made with; of a matrix product in front of a bias as well."""
        node = self.producers[name]
        own = self._weights(node)
        if node.op_type == "Add" and _stem(name, node) == "linear":
            products = [made for parent in self.parents(name) if (made := self.producers.get(parent)) is not None]
            own += [weight for made in products if made.op_type == "MatMul" for weight in self._weights(made)]
        return tuple(own)

    def constant(self, name: str) -> Array | None:
        """The values of a floating constant as float32; None where there is none of that name."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_type not in _FLOATS:
            return None
        return np.asarray(numpy_helper.to_array(tensor, base_dir=str(self.folder)), np.float32)

    def places(self) -> list[Place]:
        """A place for each of `results`."""
        modules = self.modules()
        found = []
        for name in self.results:
            node = self.producers[name]
            stem = _stem(name, node)
            parameters = tuple(n for n in self._weights(node) if "." in n)
            if stem == "linear":  # with or without its weight, depending on what the exporter made of it
                parameters = tuple(n for n in parameters if n.endswith(".bias"))
            found.append(
                Place(
                    stem=stem,
                    parameters=parameters,
                    name=name,
                    operands=self.operands(name),
                    module=modules.get(name, ""),
                )
            )
        return found

    def modules(self) -> dict[str, str]:
        """Value to the torch module that it comes from, as far as the names of weights tell: the module that owns the
        node's weights, or what the modules before and after it have in common.
        """
        own = {}
        for node in self.nodes:
            owners = [n.rpartition(".")[0] for n in self._weights(node) if "." in n]
            if owners and node.output[0] not in self._stored:
                own[node.output[0]] = owners[0]
        found: dict[str, str] = {}
        waiting: list[str] = []
        before = ""
        for name in self.producers:
            if name in own:
                shared = _shared_path(before, own[name]) if before else own[name].rpartition(".")[0]
                found |= dict.fromkeys(waiting, shared)
                waiting, before = [], own[name]
                found[name] = before
            else:
                waiting.append(name)
        return found | dict.fromkeys(waiting, before.rpartition(".")[0])

    def _weights(self, node: onnx.NodeProto) -> list[str]:
        """The constants that a node reads, widened or not."""
        return [self._stored[name] for name in node.input if name in self._stored]

    def _dependent(self) -> set[str]:
        """Every value that the inputs decide."""
        found = set(self.inputs)
        for node in self.nodes:
            if found.intersection(node.input):
                found.update(node.output)
        return found

    def _value_types(self) -> dict[str, int]:
        """ONNX's own inference stops at operators that it has no function for, such as GroupNormalization; most others
        give back the type of what they work on.
        """
        types = {tensor.name: tensor.data_type for tensor in self.model.graph.initializer}
        types |= {value.name: value.type.tensor_type.elem_type for value in self.model.graph.input}
        for node in self.nodes:
            kind = _result_type(node, types)
            types |= {name: kind for name in node.output if name}
        return types


def load_graph(path: Path) -> OnnxGraph:
    """Reads a model file; its weights are not read."""
    return OnnxGraph(onnx.load(path, load_external_data=False), path.parent)


def pruned(graph: OnnxGraph, outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """A copy of the model that computes these values and nothing that they do not need."""
    wanted = {value.name for value in outputs}
    nodes = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.node[:], model.graph.output[:], model.graph.initializer[:]
    model.graph.node.extend(nodes[::-1])
    model.graph.output.extend(outputs)
    model.graph.initializer.extend(t for t in graph.model.graph.initializer if t.name in wanted)
    return model


def _result_type(node: onnx.NodeProto, types: dict[str, int]) -> int:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Cast":
        return int(attributes["to"].i)
    if node.op_type in ("Shape", "Size", "NonZero", "ArgMax", "ArgMin"):
        return int(TensorProto.INT64)
    if node.op_type in _BOOLEAN:
        return int(TensorProto.BOOL)
    if node.op_type in ("Constant", "ConstantOfShape"):
        value = attributes.get("value")
        return int(TensorProto.FLOAT if value is None else value.t.data_type)
    source = node.input[1 if node.op_type == "Where" else 0] if node.input else ""
    return types.get(source, int(TensorProto.UNDEFINED))


def _stem(name: str, node: onnx.NodeProto) -> str:
    """The torch operation in a value's name; `val_17` is a step of one, and told by its operator."""
    stem = re.sub(r"_\d+(?=_|$)", "", name)
    return f"{node.domain}:{node.op_type}" if stem == "val" else stem


def _shared_path(first: str, second: str) -> str:
    shared = os.path.commonpath([path.replace(".", "/") for path in (first, second)])
    return shared.replace("/", ".")


def in_order(graph: OnnxGraph, names: Iterable[str]) -> list[str]:
    """The values in the order in which they are made."""
    positions = {name: i for i, name in enumerate(graph.producers)}
    return sorted(names, key=lambda name: positions.get(name, -1))
