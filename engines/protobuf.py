"""The wire format of Protocol Buffers, which ONNX files are written in. In: a message's bytes. Out: its fields.

Source: the encoding's public description (protobuf.dev, "Encoding").
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED32: 4, _FIXED64: 8}


def fields(message: memoryview) -> Iterator[tuple[int, int | bytes | memoryview]]:
    """(number, value) of each field: an int for a varint, bytes for a fixed-size one, else a part of the message.

    Raises:
        ValueError, IndexError: not a message, or truncated.
    """
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        wire = tag & 7
        if wire == _VARINT:
            value, position = varint(message, position)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            length, position = varint(message, position)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > len(message):
            raise ValueError("truncated")
        part = message[position : position + length]
        yield tag >> 3, part if wire == _BYTES else bytes(part)
        position += length


def varint(message: memoryview, position: int) -> tuple[int, int]:
    """The unsigned number that begins at `position`, and the position after it.

    Raises:
        ValueError, IndexError: more than 64 bits, or truncated.
    """
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError(f"number too long at byte {position}")


def packed(value: int | bytes | memoryview) -> list[int]:
    """The signed 64-bit numbers of a repeated field, whether it came packed or one at a time."""
    if isinstance(value, int):
        return [signed(value)]
    numbers, position, message = [], 0, memoryview(value)
    while position < len(message):
        number, position = varint(message, position)
        numbers.append(signed(number))
    return numbers


def signed(number: int) -> int:
    """A varint as int64."""
    return number - (1 << 64) if number >= 1 << 63 else number
