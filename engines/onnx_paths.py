"""Where an ONNX file keeps its weights, read without the onnx package. In: a model file. Out: an error if it points
outside the bundle.

An ONNX model is a Protocol Buffers message; external tensors name their file in `TensorProto.external_data`. Only the
messages on the way to them are walked. Source: onnx.proto, field numbers below.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engines.errors import BundlePathError, BundleSchemaError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL = {7: "graph", 25: "function"}
_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
_FUNCTION = {7: "node"}
_NODE = {5: "attribute"}
_ATTRIBUTE = {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"}
_SPARSE = {1: "tensor", 2: "tensor"}
_CHILDREN = {
    "model": _MODEL,
    "graph": _GRAPH,
    "function": _FUNCTION,
    "node": _NODE,
    "attribute": _ATTRIBUTE,
    "sparse": _SPARSE,
}
_EXTERNAL_DATA = 13
_MAX_DEPTH = 40


def check_external_paths(model: Path, folder: Path) -> list[str]:
    """Refuses a model whose external data lie outside `folder`.

    Returns:
        The external files, relative to `folder`.

    Raises:
        BundlePathError: a location is absolute, or leads out of the folder (symbolic links followed).
        BundleSchemaError: the file is not an ONNX model.
    """
    try:
        locations = set(external_locations(memoryview(model.read_bytes())))
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise BundleSchemaError(f"{model} is not a readable ONNX file ({error}); export the bundle again") from error
    found = []
    for location in sorted(locations):
        target = (model.parent / location).resolve()
        if Path(location).is_absolute() or not target.is_relative_to(folder.resolve()):
            raise BundlePathError(
                f"{model} keeps weights in {location!r}, outside the bundle {folder}; do not use this bundle"
            )
        found.append(target.relative_to(folder.resolve()).as_posix())
    return found


def external_locations(message: memoryview, kind: str = "model", depth: int = 0) -> Iterator[str]:
    """Every `location` of external tensors in a serialized message of the given kind."""
    if depth > _MAX_DEPTH:
        raise ValueError("graphs nested too deeply")
    for number, value in _fields(message):
        if kind == "tensor":
            if number == _EXTERNAL_DATA:
                entry = {n: bytes(v).decode() for n, v in _fields(value)}
                if entry.get(1) == "location":
                    yield entry.get(2, "")
        elif child := _CHILDREN[kind].get(number):
            yield from external_locations(value, child, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a message; the others are passed over."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == _VARINT:
            _, position = _varint(message, position)
            continue
        if wire == _BYTES:
            length, position = _varint(message, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > len(message):
            raise ValueError("truncated")
        if wire == _BYTES:
            yield tag >> 3, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
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
