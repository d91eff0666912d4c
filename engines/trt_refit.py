"""The weights of stripped plans. In: an engine without weights, and the ONNX file that it was built of. Out: the
engine, complete. Weights go from the mapped file to the engine; no copy of them is made here.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engines.errors import BundleSchemaError, EngineError
from engines.onnx_paths import check_external_paths
from engines.protobuf import fields
from engines.trt_library import IS_LEAN, trt
from engines.trt_log import LOG
from engines.trt_messages import failure

_TYPES = {1: "FLOAT", 6: "INT32", 7: "INT64", 10: "HALF", 16: "BF16"}
"""TensorProto.DataType to TensorRT's."""


@dataclass(frozen=True, kw_only=True)
class _Weight:
    """One initializer, in a mapped file."""

    dtype: int
    """TensorProto.DataType."""
    address: int
    nbytes: int


def refit(engine: trt.ICudaEngine, onnx: Path) -> None:
    """Gives the engine the weights of the file that it was built of.

    Raises:
        EngineError: TensorRT refuses them, or some are missing.
        BundleSchemaError: the file cannot be read.
        BundlePathError: it keeps weights outside its folder.
    """
    check_external_paths(onnx, onnx.parent)
    files: list[mmap.mmap] = []
    with LOG.collecting() as said:
        refitter = trt.Refitter(engine, LOG)
        if IS_LEAN:
            files = _by_name(refitter, onnx)
        elif not trt.OnnxParserRefitter(refitter, LOG).refit_from_file(str(onnx)):
            raise EngineError(f"TensorRT cannot take the weights of {onnx}: {failure(said)}; build the engines again")
        if missing := refitter.get_missing_weights():
            raise EngineError(
                f"{onnx} lacks {len(missing)} weights of its stripped engine, {', '.join(missing[:3])} among them; "
                f"build the engines again{', without --strip-weights for the lean runtime' if IS_LEAN else ''}"
            )
        if not refitter.refit_cuda_engine():
            raise EngineError(f"TensorRT cannot put in the weights of {onnx}: {failure(said)}; build the engines again")
    del files  # until here TensorRT reads from them


def _by_name(refitter: trt.Refitter, onnx: Path) -> list[mmap.mmap]:
    """Sets every weight that has the name of one in the file; the memory that they lie in, which must outlive this."""
    weights, files = _weights(onnx)
    for name in refitter.get_all_weights():
        found = weights.get(name)
        if found is None or found.dtype not in _TYPES:
            continue
        wanted = refitter.get_weights_prototype(name)
        kind = trt.DataType.__members__[_TYPES[found.dtype]]
        if wanted.dtype != kind or wanted.nbytes != found.nbytes:
            raise EngineError(
                f"weight {name} of {onnx} is {found.nbytes} bytes of {kind.name}, its engine expects {wanted.nbytes} "
                f"of {wanted.dtype.name}; build the engines again"
            )
        if not refitter.set_named_weights(name, trt.Weights(kind, found.address, wanted.size)):
            raise EngineError(f"TensorRT refuses weight {name} of {onnx}; build the engines again")
    return files


def _weights(onnx: Path) -> tuple[dict[str, _Weight], list[mmap.mmap]]:
    """Every initializer of the file by name, and the mapped files. Source: onnx.proto, field numbers below."""
    files = {"": _mapped(onnx)}
    found: dict[str, _Weight] = {}
    try:
        for graph in _messages(memoryview(files[""]), 7):
            for tensor in _messages(graph, 5):
                name, weight = _weight(tensor, onnx.parent, files)
                found[name] = weight
    except (IndexError, ValueError, OSError) as error:
        raise BundleSchemaError(f"the weights of {onnx} cannot be read ({error}); export the bundle again") from error
    return found, list(files.values())


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # read-only maps do not tell their address


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, value in fields(message) if number == wanted and isinstance(value, memoryview))


def _weight(message: memoryview, folder: Path, files: dict[str, mmap.mmap]) -> tuple[str, _Weight]:
    """TensorProto: data_type 2, name 8, raw_data 9, external_data 13 (key 1, value 2)."""
    name, dtype = "", 0
    data = memoryview(b"")
    external: dict[str, str] = {}
    for number, value in fields(message):
        if number == 2 and isinstance(value, int):
            dtype = value
        elif number == 8 and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif number == 9 and isinstance(value, memoryview):
            data = value
        elif number == 13 and isinstance(value, memoryview):
            key, text = (bytes(part).decode() for _, part in fields(value) if isinstance(part, memoryview))
            external[key] = text
    if location := external.get("location"):
        if location not in files:
            files[location] = _mapped(folder / location)
        begin = int(external.get("offset", "0"))
        data = memoryview(files[location])[begin : begin + int(external["length"])]
    address = ctypes.addressof(ctypes.c_char.from_buffer(data)) if len(data) else 0
    return name, _Weight(dtype=dtype, address=address, nbytes=len(data))
