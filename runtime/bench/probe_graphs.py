"""Three tiny ONNX models that measure a machine, written without the onnx package. In: a size. Out: a model's bytes.

Source: onnx.proto, field numbers below. Opset 13, ir version 8.
"""

from __future__ import annotations

from collections.abc import Sequence

FLOAT, HALF = 1, 10
_INT, _INTS = 2, 7
"""AttributeProto.AttributeType."""


def noise(shape: Sequence[int], dtype: int) -> bytes:
    """`y`: normals, so that no product is of zeros, which some processors multiply faster."""
    attributes = _attribute("dtype", dtype) + _attribute("shape", shape)
    return _model(_node("RandomNormal", (), attributes), {}, shape, dtype)


def product(side: int, dtype: int) -> bytes:
    """`y` = `a` times `b`, each [side, side]."""
    shape = (side, side)
    return _model(_node("MatMul", ("a", "b")), {"a": shape, "b": shape}, shape, dtype)


def convolution(channels: int, side: int, dtype: int) -> bytes:
    """`y`: `a` [1, channels, side, side] under the 3x3 filters `b`."""
    shape = (1, channels, side, side)
    pads = _attribute("pads", (1, 1, 1, 1))
    return _model(_node("Conv", ("a", "b"), pads), {"a": shape, "b": (channels, channels, 3, 3)}, shape, dtype)


def negation(count: int, dtype: int) -> bytes:
    """`y` = -`a`, each [count]: reads and writes every byte once."""
    return _model(_node("Neg", ("a",)), {"a": (count,)}, (count,), dtype)


def _model(node: bytes, inputs: dict[str, Sequence[int]], output: Sequence[int], dtype: int) -> bytes:
    ends = b"".join(_field(11, _value_info(name, shape, dtype)) for name, shape in inputs.items())
    graph = _field(1, node) + _field(2, b"probe") + ends + _field(12, _value_info("y", output, dtype))
    opset = _field(1, b"") + _field(2, 13)
    return _field(1, 8) + _field(7, graph) + _field(8, opset)


def _node(op: str, inputs: Sequence[str], attributes: bytes = b"") -> bytes:
    return b"".join(_field(1, name.encode()) for name in inputs) + _field(2, b"y") + _field(4, op.encode()) + attributes


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        body = _field(3, value) + _field(20, _INT)
    else:
        body = b"".join(_field(8, number) for number in value) + _field(20, _INTS)
    return _field(5, _field(1, name.encode()) + body)


def _value_info(name: str, shape: Sequence[int], dtype: int) -> bytes:
    dims = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, dtype) + _field(2, dims)))


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
