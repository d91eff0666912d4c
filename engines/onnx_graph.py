"""The structure of an ONNX file, read without the onnx package. In: a model file. Out: nodes, shapes, small constants,
subgraphs, functions, versions of the operator sets.

Weights are not read: of them only shape and type are kept. Source: onnx.proto, field numbers below.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engines.errors import BundleSchemaError
from engines.protobuf import fields, packed, signed

ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""TensorProto.DataType to bytes of one element."""
FLOAT, INT32, INT64 = 1, 6, 7
_SMALL = 64
"""Constants of at most so many numbers keep their values."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Shape (names are dynamic axes), type, and the values of a small constant."""

    shape: tuple[int | str, ...]
    dtype: int
    """TensorProto.DataType."""
    values: tuple[float, ...] | None = None


Attribute = int | float | str | tuple[int, ...] | TensorInfo


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator; names of tensors, "" for one that is left out."""

    name: str = ""
    """The node's own, "" where it has none."""

    op: str
    """With its domain where that is not ONNX's own: com.microsoft:MultiHeadAttention."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    subgraphs: tuple[OnnxGraph, ...] = ()
    """Of `If`, `Loop` and `Scan`; they see the values of the graph around them."""


@dataclass(frozen=True, kw_only=True)
class OnnxGraph:
    """What a model, or a part of it, computes."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, TensorInfo]
    inputs: Mapping[str, TensorInfo]
    outputs: tuple[str, ...]
    values: Mapping[str, TensorInfo] = field(default_factory=dict)
    """What the file says of outputs and of values in between; most files say nothing of those."""


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """A graph, and what its operators mean."""

    graph: OnnxGraph
    opsets: Mapping[str, int]
    """Version of each operator set by its domain, "" for ONNX's own."""
    functions: Mapping[str, tuple[Node, ...]]
    """Bodies of operators that the file itself defines, by `Node.op`."""


def read_graph(path: Path) -> OnnxGraph:
    """Reads the graph of a model file.

    Raises:
        BundleSchemaError: not a readable ONNX model.
    """
    return read_model(path).graph


def read_model(path: Path) -> OnnxModel:
    """Reads a model file.

    Raises:
        BundleSchemaError: not a readable ONNX model.
    """
    try:
        parts = _parts(memoryview(path.read_bytes()))
        if 7 in parts:
            return OnnxModel(
                graph=_graph(parts[7][0]),
                opsets=dict(_opset(message) for message in parts.get(8, [])),
                functions=dict(_function(message) for message in parts.get(25, [])),
            )
    except (OSError, IndexError, ValueError, struct.error) as error:
        raise BundleSchemaError(f"{path} is not a readable ONNX file ({error}); export the bundle again") from error
    raise BundleSchemaError(f"{path} holds no graph; export the bundle again")


def _parts(message: memoryview) -> dict[int, list[memoryview]]:
    """The length-delimited fields by number."""
    found: dict[int, list[memoryview]] = {}
    for number, value in fields(message):
        if isinstance(value, memoryview):
            found.setdefault(number, []).append(value)
    return found


def _text(value: memoryview) -> str:
    return bytes(value).decode()


def _named(domain: str, op: str) -> str:
    return f"{domain}:{op}" if domain not in ("", "ai.onnx") else op


def _opset(message: memoryview) -> tuple[str, int]:
    domain = "".join(map(_text, _parts(message).get(1, [])))
    version = next((v for n, v in fields(message) if n == 2 and isinstance(v, int)), 0)
    return "" if domain == "ai.onnx" else domain, version


def _function(message: memoryview) -> tuple[str, tuple[Node, ...]]:
    parts = _parts(message)
    domain, name = ("".join(map(_text, parts.get(number, []))) for number in (10, 1))
    return _named(domain, name), tuple(_node(node) for node in parts.get(7, []))


def _graph(message: memoryview) -> OnnxGraph:
    parts = _parts(message)
    constants = dict(_tensor(tensor) for tensor in parts.get(5, []))
    inputs = dict(_value_info(value) for value in parts.get(11, []))
    outputs = dict(_value_info(value) for value in parts.get(12, []))
    return OnnxGraph(
        nodes=tuple(_node(node) for node in parts.get(1, [])),
        constants=constants,
        inputs={name: info for name, info in inputs.items() if name not in constants},
        outputs=tuple(outputs),
        values=dict(_value_info(value) for value in parts.get(13, [])) | outputs,
    )


def _node(message: memoryview) -> Node:
    parts = _parts(message)
    domain, op, name = ("".join(map(_text, parts.get(number, []))) for number in (7, 4, 3))
    graphs = (graph for a in parts.get(5, []) for n in (6, 11) for graph in _parts(a).get(n, []))
    return Node(
        name=name,
        op=_named(domain, op),
        inputs=tuple(map(_text, parts.get(1, []))),
        outputs=tuple(map(_text, parts.get(2, []))),
        attributes=dict(_attribute(attribute) for attribute in parts.get(5, [])),
        subgraphs=tuple(_graph(graph) for graph in graphs),
    )


def _attribute(message: memoryview) -> tuple[str, Attribute]:
    """Name and value; of kinds that are not in `Attribute` an empty tuple."""
    name = ""
    value: Attribute | None = None
    numbers: list[int] = []
    for number, part in fields(message):
        if number == 1 and isinstance(part, memoryview):
            name = _text(part)
        elif number == 2 and isinstance(part, bytes):
            value = float(struct.unpack("<f", part)[0])
        elif number == 3 and isinstance(part, int):
            value = signed(part)
        elif number == 4 and isinstance(part, memoryview):
            value = bytes(part).decode(errors="replace")
        elif number == 5 and isinstance(part, memoryview):
            value = _tensor(part)[1]
        elif number == 8:
            numbers += packed(part)
    return name, tuple(numbers) if value is None else value


def _tensor(message: memoryview) -> tuple[str, TensorInfo]:
    name, dtype, raw = "", 0, b""
    dims: list[int] = []
    values: list[float] = []
    for number, part in fields(message):
        if number == 1:
            dims += packed(part)
        elif number == 2 and isinstance(part, int):
            dtype = part
        elif number == 4 and isinstance(part, memoryview) and len(part) <= 4 * _SMALL:
            values += struct.unpack(f"<{len(part) // 4}f", part)
        elif number == 7:
            values += packed(part)
        elif number == 8 and isinstance(part, memoryview):
            name = _text(part)
        elif number == 9 and isinstance(part, memoryview) and len(part) <= 8 * _SMALL:
            raw = bytes(part)
    letter = {FLOAT: "f", INT32: "i", INT64: "q"}.get(dtype)
    if raw and letter:
        values = list(struct.unpack(f"<{len(raw) // ITEM_BYTES[dtype]}{letter}", raw))
    known = len(values) == math.prod(dims) <= _SMALL
    return name, TensorInfo(shape=tuple(dims), dtype=dtype, values=tuple(values) if known else None)


def _value_info(message: memoryview) -> tuple[str, TensorInfo]:
    """ValueInfoProto: name 1, type 2 > tensor_type 1 > (elem_type 1, shape 2 > dim 1 > (dim_value 1 | dim_param 2))."""
    parts = _parts(message)
    dtype, shape = 0, []
    for tensor_type in (inner for outer in parts.get(2, []) for inner in _parts(outer).get(1, [])):
        dtype = next((v for n, v in fields(tensor_type) if n == 1 and isinstance(v, int)), 0)
        for dim in (d for s in _parts(tensor_type).get(2, []) for d in _parts(s).get(1, [])):
            size = next((v for _, v in fields(dim)), 0)
            shape.append(_text(size) if isinstance(size, memoryview) else int(size))
    return _text(parts[1][0]), TensorInfo(shape=tuple(shape), dtype=dtype)
