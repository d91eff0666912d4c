"""The structure of an ONNX file, read without the onnx package. In: a model file. Out: nodes, shapes, small constants.

Weights are not read: of them only shape and type are kept. Source: onnx.proto, field numbers below.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.errors import BundleSchemaError
from engines.protobuf import fields, packed, signed

ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""TensorProto.DataType to bytes of one element."""
FLOAT, INT32, INT64 = 1, 6, 7
_SMALL = 64
"""Constants of at most so many numbers keep their values."""

Attribute = int | float | str | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Shape (names are dynamic axes), type, and the values of a small constant."""

    shape: tuple[int | str, ...]
    dtype: int
    """TensorProto.DataType."""
    values: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator; names of tensors, "" for one that is left out."""

    op: str
    """With its domain where that is not ONNX's own: com.microsoft:MultiHeadAttention."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, kw_only=True)
class OnnxGraph:
    """What a model computes."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, TensorInfo]
    inputs: Mapping[str, TensorInfo]
    outputs: tuple[str, ...]


def read_graph(path: Path) -> OnnxGraph:
    """Reads a model file.

    Raises:
        BundleSchemaError: not a readable ONNX model.
    """
    try:
        for number, value in fields(memoryview(path.read_bytes())):
            if number == 7 and isinstance(value, memoryview):
                return _graph(value)
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


def _graph(message: memoryview) -> OnnxGraph:
    parts = _parts(message)
    constants = dict(_tensor(tensor) for tensor in parts.get(5, []))
    inputs = dict(_value_info(value) for value in parts.get(11, []))
    return OnnxGraph(
        nodes=tuple(_node(node) for node in parts.get(1, [])),
        constants=constants,
        inputs={name: info for name, info in inputs.items() if name not in constants},
        outputs=tuple(_value_info(value)[0] for value in parts.get(12, [])),
    )


def _node(message: memoryview) -> Node:
    parts = _parts(message)
    domain, op = ("".join(map(_text, parts.get(number, []))) for number in (7, 4))
    return Node(
        op=f"{domain}:{op}" if domain not in ("", "ai.onnx") else op,
        inputs=tuple(map(_text, parts.get(1, []))),
        outputs=tuple(map(_text, parts.get(2, []))),
        attributes=dict(_attribute(attribute) for attribute in parts.get(5, [])),
    )


def _attribute(message: memoryview) -> tuple[str, Attribute]:
    """Name and value; of a tensor its first numbers, of other kinds an empty tuple."""
    name, value, numbers = "", None, []
    for number, field in fields(message):
        if number == 1 and isinstance(field, memoryview):
            name = _text(field)
        elif number == 2 and isinstance(field, bytes):
            value = struct.unpack("<f", field)[0]
        elif number == 3 and isinstance(field, int):
            value = signed(field)
        elif number == 4 and isinstance(field, memoryview):
            value = bytes(field).decode(errors="replace")
        elif number == 8:
            numbers += packed(field)
    return name, tuple(numbers) if value is None else value


def _tensor(message: memoryview) -> tuple[str, TensorInfo]:
    name, dtype, raw = "", 0, b""
    dims: list[int] = []
    values: list[float] = []
    for number, field in fields(message):
        if number == 1:
            dims += packed(field)
        elif number == 2 and isinstance(field, int):
            dtype = field
        elif number == 4 and isinstance(field, memoryview) and len(field) <= 4 * _SMALL:
            values += struct.unpack(f"<{len(field) // 4}f", field)
        elif number == 7:
            values += packed(field)
        elif number == 8 and isinstance(field, memoryview):
            name = _text(field)
        elif number == 9 and isinstance(field, memoryview) and len(field) <= 8 * _SMALL:
            raw = bytes(field)
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
