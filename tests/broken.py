"""Bundles with one thing wrong. In: a sound bundle of an exported model. Out: a folder with a copy that is not."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from engines.bundle import Bundle, FileRecord, open_bundle
from engines.files import sha256_file
from export.lowering.onnxruntime_cpu import BACKEND, lower

OVERFLOW = 2.0**16
"""A factor that takes an attention's values, some units large, beyond fp16 and leaves its weights within."""


def overflowing(source: Path, folder: Path, graph: str, *, lowered: bool = True) -> Path:
    """A copy of an fp16 bundle in which one attention's values are `OVERFLOW` times as large, which the projection
    after it takes back: in float32 it computes the same (but for the projection's weights, subnormal now); in fp16 the
    values are infinite. ONNX Runtime's CPU provider holds them in fp16 in the canonical form, and in float32 in the
    lowered one, which is left out on request.
    """
    shutil.copytree(source, folder)
    bundle = open_bundle(folder)
    path = bundle.path(bundle.manifest.graphs[graph].file)
    model = onnx.load(path, load_external_data=False)
    weights = bytearray(path.with_name("model.onnx.data").read_bytes())
    values, projection = _around_an_attention(model.graph)
    for name in values:
        _scale(model.graph, weights, name, OVERFLOW)
    _scale(model.graph, weights, projection, 1 / OVERFLOW)
    path.with_name("model.onnx.data").write_bytes(weights)
    onnx.save(model, path)
    lower(path)
    _rewrite_manifest(bundle, graph, keep_lowered=lowered)
    return folder


def _around_an_attention(graph: onnx.GraphProto) -> tuple[list[str], str]:
    """Names of the weight and, where there is one, the bias that make an attention's values, and of the weight after
    it."""
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers = {name: node for node in reversed(graph.node) for name in node.input}
    attention = next(n for n in graph.node if n.op_type == "Attention" and n.input[2] in makers)
    node, values = makers[attention.input[2]], []
    while node.op_type != "MatMul":
        values += [name for name in node.input if node.op_type == "Add" and name in constants]
        node = next(makers[name] for name in node.input if name in makers)
    values.append(node.input[1])
    node = readers[attention.output[0]]
    while node.op_type != "MatMul":
        node = readers[node.output[0]]
    return values, node.input[1]


def _scale(graph: onnx.GraphProto, weights: bytearray, name: str, factor: float) -> None:
    """Multiplies an fp16 initializer, wherever its numbers are."""
    tensor = next(t for t in graph.initializer if t.name == name)
    if tensor.data_location != TensorProto.EXTERNAL:
        scaled = (numpy_helper.to_array(tensor).astype(np.float32) * factor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(scaled, name))
        return
    place = {entry.key: entry.value for entry in tensor.external_data}
    half = np.frombuffer(weights, np.float16, int(place["length"]) // 2, int(place.get("offset", 0)))
    half[:] = (half.astype(np.float32) * factor).astype(np.float16)


def _rewrite_manifest(bundle: Bundle, graph: str, *, keep_lowered: bool) -> None:
    """With the hashes of the files as they are now."""
    graphs = {
        name: entry if keep_lowered else dataclasses.replace(entry, lowered={})
        for name, entry in bundle.manifest.graphs.items()
    }
    if keep_lowered:
        assert BACKEND in graphs[graph].lowered
    files = {
        name: FileRecord(sha256=sha256_file(bundle.path(name)), size=bundle.path(name).stat().st_size)
        for name in bundle.manifest.files
    }
    dataclasses.replace(bundle.manifest, graphs=graphs, files=files).write(bundle.folder)
