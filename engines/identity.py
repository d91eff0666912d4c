"""The smallest model, to see whether an engine opens anything at all. In: a folder. Out: a bundle of it."""

from __future__ import annotations

from pathlib import Path

from engines.bundle import Bundle, GraphEntry, Manifest, Precision
from engines.graphs import GraphSpec, TensorSpec

IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a0208"
    "0142040a00100d"
)
"""An ONNX model (opset 13) whose float32 output y [1] is its input x."""

IDENTITY_GRAPH = GraphSpec(
    name="identity", inputs=(TensorSpec(name="x", shape=(1,)),), outputs=(TensorSpec(name="y", shape=(1,)),)
)


def identity_bundle(folder: Path) -> Bundle:
    """Writes the model. What is returned opens as any bundle does, and has this one graph and no manifest."""
    file = "identity.onnx"
    (folder / file).write_bytes(IDENTITY)
    entry = GraphEntry(spec=IDENTITY_GRAPH, file=file)
    manifest = Manifest(precision=Precision.FP32, graphs={IDENTITY_GRAPH.name: entry}, axes={}, files={})
    return Bundle(folder=folder, manifest=manifest)
