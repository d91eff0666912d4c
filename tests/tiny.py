"""A bundle of the smallest graphs that have the right names and shapes, made in milliseconds with onnx.helper.

preprocess repeats pixels, encode averages 8x8 blocks, denoise is linear, decode repeats pixels. The pictures mean
nothing; plumbing (padding, cropping, modes, settings, errors) is tested without an exported model.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines import graphs
from engines.bundle import FileRecord, GraphEntry, Manifest, Precision
from engines.files import sha256_file


def constant(name, values):
    return numpy_helper.from_array(np.asarray(values), name)


def value_info(spec):
    return helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape))


def repeat(source, target, factor):
    scales = constant(f"{target}_scales", np.array([1, 1, factor, factor], np.float32))
    node = helper.make_node("Resize", [source, "", scales.name], [target], mode="nearest", nearest_mode="floor")
    return node, scales


def nodes_of(name, output_scale):
    """Nodes and initializers of one graph."""
    scale = constant("scale", np.float32(output_scale))
    if name == "preprocess":
        node, scales = repeat("image", "preprocessed", 4)
        return [node], [scales]
    if name in ("encode", "condition"):
        target = "latent_mean" if name == "encode" else "condition"
        weight = constant(
            "weight", np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32).reshape(4, 3, 1, 1)
        )
        nodes = [
            helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Conv", ["pooled", "weight"], ["colors"]),
            helper.make_node("Mul", ["colors", "scale"], [target]),
        ]
        if name == "encode":
            nodes.append(helper.make_node("Mul", ["latent_mean", "small"], ["latent_std"]))
            return nodes, [weight, scale, constant("small", np.float32(0.01))]
        return nodes, [weight, scale]
    if name == "denoise":
        nodes = [
            helper.make_node("Mul", ["condition", "control_scale"], ["controlled"]),
            helper.make_node("Mul", ["timestep", "small"], ["shrunk"]),
            helper.make_node("Sub", ["latent", "controlled"], ["difference"]),
            helper.make_node("Mul", ["difference", "shrunk"], ["product"]),
            helper.make_node("Mul", ["product", "scale"], ["output"]),
        ]
        return nodes, [constant("small", np.float32(0.001)), scale]
    weight = constant("weight", np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], np.float32).reshape(3, 4, 1, 1))
    node, scales = repeat("colors", "image", 8)
    nodes = [
        helper.make_node("Conv", ["latent", "weight"], ["unscaled"]),
        helper.make_node("Mul", ["unscaled", "scale"], ["colors"]),
        node,
    ]
    return nodes, [weight, scale, scales]


def write_tiny_bundle(
    folder: Path, *, separate_condition=False, output_scales=None, static=None, external=None, prediction="x0-from-eps"
):
    """Writes the bundle. `output_scales` multiplies a graph's output (NaN to break it); `external` = (graph, location)
    moves a graph's first initializer to an external file of that name."""
    specs = [graphs.PREPROCESS, graphs.ENCODE, graphs.DENOISE, graphs.DECODE]
    specs += [graphs.CONDITION] if separate_condition else []
    entries, files = {}, {}
    for spec in specs:
        nodes, initializers = nodes_of(spec.name, (output_scales or {}).get(spec.name, 1.0))
        if external and external[0] == spec.name:
            moved = initializers[0]
            data = moved.raw_data
            moved.ClearField("raw_data")
            moved.data_location = TensorProto.EXTERNAL
            moved.external_data.add(key="location", value=external[1])
            moved.external_data.add(key="length", value=str(len(data)))
        graph = helper.make_graph(
            nodes,
            spec.name,
            [value_info(s) for s in spec.inputs],
            [value_info(s) for s in spec.outputs],
            initializer=initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = folder / "onnx" / spec.name / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)
        relative = path.relative_to(folder).as_posix()
        files[relative] = FileRecord(sha256=sha256_file(path), size=path.stat().st_size)
        entries[spec.name] = GraphEntry(spec=spec, file=relative)
    manifest = Manifest(
        precision=Precision.FP32,
        graphs=entries,
        axes=graphs.axis_ranges(static),
        files=files,
        prediction=prediction,
        prompt="clean, high-resolution, 8k",
    )
    manifest.write(folder)
    return folder
