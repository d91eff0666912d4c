"""Where an ONNX file keeps its weights, read without the onnx package. In: a model file. Out: an error if it points
outside the bundle.

An ONNX model is a Protocol Buffers message; external tensors name their file in `TensorProto.external_data`. Only the
messages on the way to them are walked. Source: onnx.proto, field numbers below.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engines.errors import BundlePathError, BundleSchemaError
from engines.protobuf import fields

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
    for number, value in fields(message):
        if not isinstance(value, memoryview):
            continue
        if kind == "tensor":
            if number == _EXTERNAL_DATA:
                entry = {n: bytes(v).decode() for n, v in fields(value) if isinstance(v, memoryview)}
                if entry.get(1) == "location":
                    yield entry.get(2, "")
        elif child := _CHILDREN[kind].get(number):
            yield from external_locations(value, child, depth + 1)
