"""Bundles that are wrong in one place, as a wrong export would be: the canonical file is edited, lowered again, and the
manifest's hashes are those of the new files.
"""

import contextlib
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.bundle import FileRecord, open_bundle
from engines.files import sha256_file
from export.lowering import onnxruntime_cpu, onnxruntime_cuda

OVERFLOW = 2.0**16
"""A factor that takes an attention's values, some units large, beyond fp16 and leaves its weights within."""


@contextlib.contextmanager
def edited(bundle: Path, graph: str, out: Path, *, lower_again=True):
    """A copy of the bundle whose canonical graph may be changed in the block: gives the model and its folder."""
    shutil.copytree(bundle, out)
    manifest = open_bundle(out).manifest
    entry = manifest.graphs[graph]
    path = out / entry.file
    model = onnx.load(path, load_external_data=False)
    yield model, path.parent
    onnx.save(model, path)
    for form in (onnxruntime_cpu, onnxruntime_cuda):
        if form.BACKEND in entry.lowered and lower_again:
            form.lower(path)
    files = dict(manifest.files)
    for name in files:
        if name.startswith(f"onnx/{graph}/"):
            files[name] = FileRecord(sha256=sha256_file(out / name), size=(out / name).stat().st_size)
    dataclasses.replace(manifest, files=files).write(out)


def set_weight(model, folder, name, values):
    """Writes a weight's numbers where they are kept, in its own type."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    data = np.asarray(values).astype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    assert data.shape == tuple(tensor.dims)
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        tensor.CopyFrom(numpy_helper.from_array(data, name))
        return
    where = {entry.key: entry.value for entry in tensor.external_data}
    with (folder / where["location"]).open("r+b") as file:
        file.seek(int(where.get("offset", 0)))
        file.write(data.tobytes())


def shape_of(model, name):
    return tuple(next(t for t in model.graph.initializer if t.name == name).dims)


def with_zeroed_weight(bundle, out, graph, weight):
    """One tensor of weights is zero."""
    with edited(bundle, graph, out) as (model, folder):
        set_weight(model, folder, weight, np.zeros(shape_of(model, weight)))
    return out


def with_swapped_sinusoid(bundle, out):
    """Sines stand before cosines in the timestep's embedding, which ControlNet and UNet share."""
    with edited(bundle, "denoise", out) as (model, _):
        makers = {name: node.op_type for node in model.graph.node for name in node.output}
        [embedding] = [n for n in model.graph.node if [makers.get(i) for i in n.input] == ["Cos", "Sin"]]
        embedding.input[:] = [embedding.input[1], embedding.input[0]]
    return out


def with_scale(bundle, out, graph, value, factor):
    """All that reads a value reads it times a factor and divided by it again: nothing changes in float32."""
    with edited(bundle, graph, out) as (model, _):
        nodes, initializers = model.graph.node, model.graph.initializer
        half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in initializers)
        dtype = np.float16 if half else np.float32
        initializers.append(numpy_helper.from_array(np.asarray(factor, dtype), "factor"))
        initializers.append(numpy_helper.from_array(np.asarray(1 / factor, dtype), "inverse"))
        at = next(i for i, node in enumerate(nodes) if value in node.output)
        for node in nodes:
            node.input[:] = ["mul_9002" if name == value else name for name in node.input]
        nodes.insert(at + 1, helper.make_node("Mul", ["identity_9001", "inverse"], ["mul_9002"], "node_mul_9002"))
        nodes.insert(at + 1, helper.make_node("Identity", ["mul_9000"], ["identity_9001"], "node_identity_9001"))
        nodes.insert(at + 1, helper.make_node("Mul", [value, "factor"], ["mul_9000"], "node_mul_9000"))
    return out


def with_prompt(bundle, out, embeddings):
    """The prompt's keys and values are other ones: `embeddings` by their names in the file."""
    with edited(bundle, "denoise", out) as (model, folder):
        for name, values in embeddings.items():
            set_weight(model, folder, name, values)
    return out


def overflowing(bundle: Path, out: Path, graph: str, *, lowered: bool = True) -> Path:
    """A copy of an fp16 bundle in which one attention's values are `OVERFLOW` times as large, which the projection
    after it takes back: in float32 it computes the same (but for the projection's weights, subnormal now); in fp16 the
    values are infinite. ONNX Runtime's CPU provider holds them in fp16 in the canonical form, and in float32 in the
    lowered one, which is left out on request.
    """
    with edited(bundle, graph, out) as (model, folder):
        values, projection = _around_an_attention(model.graph)
        for name, factor in [*((name, OVERFLOW) for name in values), (projection, 1 / OVERFLOW)]:
            tensor = next(t for t in model.graph.initializer if t.name == name)
            weights = numpy_helper.to_array(tensor, str(folder)).astype(np.float32)
            set_weight(model, folder, name, weights * factor)
    assert onnxruntime_cpu.BACKEND in open_bundle(out).manifest.graphs[graph].lowered
    return out if lowered else with_forms(out)


def with_forms(bundle: Path, *backends: str) -> Path:
    """The bundle itself, whose manifest names the forms for these backends alone, beside the canonical one."""
    manifest = open_bundle(bundle).manifest
    graphs = {
        name: dataclasses.replace(entry, lowered={key: entry.lowered[key] for key in backends if key in entry.lowered})
        for name, entry in manifest.graphs.items()
    }
    dataclasses.replace(manifest, graphs=graphs).write(bundle)
    return bundle


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
