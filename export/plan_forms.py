"""Forms of a graph for a TensorRT that gets its fp16 one wrong. In: a bundle, a graph, inputs that showed it. Out: the
bundle, whose manifest now names a form with float32 islands, or in float32 throughout.

The fp16 weights beside the graph serve every form. A form is a new file; the manifest that names it is written last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import onnx

from engines.bundle import Bundle, FileRecord, Precision, open_bundle
from engines.files import atomic_path, sha256_file
from engines.trt_plans import form_name, onnx_file
from export.figures import Array
from export.lowering.editor import GraphEditor
from export.lowering.tensorrt_islands import around, delicate_values, make_islands, names_of
from export.lowering.widen import widen
from export.verifying.islands import beyond_range
from export.verifying.onnx_graph import load_graph
from export.verifying.rounding import LARGEST
from export.verifying.sessions import SessionSettings

_ROOM = 4.0
"""Other pictures have larger values than the sample: what comes so near to fp16's largest number counts as beyond."""


class Arithmetic(StrEnum):
    """What a form of an fp16 graph is computed in."""

    FP16 = "fp16"
    ISLANDS = "float32 islands"
    FLOAT32 = "float32"


def arithmetic(bundle: Bundle, graph: str, tensorrt: str) -> tuple[Arithmetic, tuple[str, ...]]:
    """What TensorRT is given of that graph now, and the nodes of its islands."""
    noted = bundle.manifest.graphs[graph].verification.get(form_name(tensorrt), {})
    return Arithmetic(noted.get("arithmetic", Arithmetic.FP16)), tuple(noted.get("islands", ()))


def with_next_form(
    bundle: Bundle, graph: str, tensorrt: str, inputs: Mapping[str, Array], because: str
) -> Bundle | None:
    """The bundle with the next safer form of the graph; None where there is none.

    Args:
        bundle: is written to.
        graph: that was computed wrongly.
        tensorrt: version of the library.
        inputs: that showed it, by name, float32.
        because: what was wrong, for the manifest.

    Raises:
        EngineError: the graph cannot be run on the CPU.
        OutputNotWritableError: the bundle cannot be written.
    """
    now, _ = arithmetic(bundle, graph, tensorrt)
    if bundle.manifest.precision is not Precision.FP16 or now is Arithmetic.FLOAT32:
        return None
    path = bundle.path(onnx_file(bundle, graph, tensorrt))
    if now is Arithmetic.FP16:
        half = load_graph(path)
        beyond = beyond_range(inputs, half, half.results, SessionSettings(), LARGEST / _ROOM)
        values = around(half, beyond) or delicate_values(half)
        if 0 < len(values) < len(half.results):
            note = {"chosen": "values beyond fp16's range" if beyond else "norms, attention and reductions"}
            note_islands = note | {"islands": names_of(half, values)}
            return _with_form(
                bundle, graph, tensorrt, make_islands(half, values), Arithmetic.ISLANDS, because, note_islands
            )
    model = onnx.load(path, load_external_data=False)
    widen(GraphEditor(model))
    return _with_form(bundle, graph, tensorrt, model, Arithmetic.FLOAT32, because, {})


def _with_form(
    bundle: Bundle,
    graph: str,
    tensorrt: str,
    model: onnx.ModelProto,
    kind: Arithmetic,
    because: str,
    more: Mapping[str, Any],
) -> Bundle:
    """Writes the form beside the canonical file, then the manifest, then removes the form that it replaces."""
    form = form_name(tensorrt)
    manifest = open_bundle(bundle.folder, check_hashes=False).manifest  # as it stands now
    entry = manifest.graphs[graph]
    relative = (Path(entry.file).parent / f"model.{form}-{kind.replace(' ', '-')}.onnx").as_posix()
    path = bundle.path(relative)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    files = dict(manifest.files) | {relative: FileRecord(sha256=sha256_file(path), size=path.stat().st_size)}
    before = entry.verification.get(form, {}).get("file", "")
    files.pop(before, None)
    noted = {"arithmetic": str(kind), "file": relative, "because": because, **more}
    graphs = dict(manifest.graphs) | {
        graph: dataclasses.replace(
            entry,
            lowered=dict(entry.lowered) | {form: relative},
            verification=dict(entry.verification) | {form: noted},
        )
    }
    manifest = dataclasses.replace(manifest, graphs=graphs, files=files)
    manifest.write(bundle.folder)
    if before:
        bundle.path(before).unlink(missing_ok=True)
    return Bundle(folder=bundle.folder, manifest=manifest)
