"""What engines are held against. In: a bundle, a second bundle, or a checkpoint. Out: a `Reference`, whose graphs are
opened one at a time and give their outputs and every intermediate result.

Without a checkpoint it is ONNX files computed in float32 on the CPU, as they stand, without ONNX Runtime's rewriting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from engines.bundle import Bundle, Precision
from engines.errors import SettingsError
from export.figures import Array
from export.lowering.editor import GraphEditor
from export.lowering.widen import widen
from export.verifying.onnx_graph import OnnxGraph, Place, load_graph
from export.verifying.sampling import run_sampled
from export.verifying.sessions import Session, SessionSettings, run_marked


class Network(Protocol):
    """One opened graph of a reference. Arrays are float32."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name."""

    def places(self, inputs: Mapping[str, Array]) -> list[Place]:
        """Every intermediate result, in the order in which they are made."""

    def samples(self, inputs: Mapping[str, Array]) -> list[Array]:
        """A few thousand elements of the result at each of `places`, see `export.verifying.sampling`."""

    def capture(self, inputs: Mapping[str, Array], indices: Sequence[int]) -> dict[int, Array]:
        """The intermediate results at these indices of `places`."""

    def parameter(self, name: str) -> Array | None:
        """A weight by its name in `Place.operands`; None where there is none."""


class Reference(Protocol):
    """The networks that are taken as right."""

    description: str
    """What it is, for people."""
    limits: str
    """What it cannot show; empty where it shows everything."""
    independent: bool
    """Whether it is independent of the bundle's own files."""

    def open(self, graph: str) -> contextlib.AbstractContextManager[Network]:
        """One graph, whose memory is freed at the end of the block."""


class OnnxNetwork:
    """A canonical file computed in float32; see `Network`."""

    def __init__(self, graph: OnnxGraph, settings: SessionSettings) -> None:
        self._graph = graph
        self._settings = settings
        self._session: Session | None = None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Network.run`."""
        if self._session is None:
            self._session = Session(self._graph.model, self._graph.folder, self._settings)
        return self._session.run(inputs)

    def places(self, inputs: Mapping[str, Array]) -> list[Place]:
        """See `Network.places`."""
        del inputs  # the file tells
        return self._graph.places()

    def samples(self, inputs: Mapping[str, Array]) -> list[Array]:
        """See `Network.samples`."""
        self._session = None  # a session at a time
        return list(run_sampled(self._graph, self._graph.results, inputs, self._settings).values())

    def capture(self, inputs: Mapping[str, Array], indices: Sequence[int]) -> dict[int, Array]:
        """See `Network.capture`."""
        self._session = None
        names = self._graph.results
        found = run_marked(self._graph, [names[i] for i in indices], inputs, self._settings)
        return {i: found[names[i]] for i in indices}

    def parameter(self, name: str) -> Array | None:
        """See `Network.parameter`."""
        return self._graph.constant(name)


class OnnxReference:
    """The canonical files of a bundle, fp16 ones computed in float32."""

    def __init__(self, bundle: Bundle, *, own: bool, threads: int | None = None) -> None:
        self._bundle = bundle
        self._settings = SessionSettings(threads=threads)
        half = bundle.manifest.precision is Precision.FP16
        self.independent = not own
        if not own:
            self.description = f"the fp32 ONNX files of {bundle.folder.resolve().name}, on the CPU"
            self.limits = "errors that both bundles have; give the --checkpoint to see them"
        elif half:
            self.description = "the bundle's own fp16 ONNX files, computed in float32 on the CPU"
            self.limits = (
                "wrong or badly rounded weights, since they are the bundle's own, only what fp16 arithmetic and the "
                "engines do; give --checkpoint FILE, or --reference DIR of an fp32 bundle, to see the rest"
            )
        else:
            self.description = "the bundle's own fp32 ONNX files, on the CPU"
            self.limits = (
                "wrong weights or a wrong export, since the files are the bundle's own, only what the engines make of "
                "them; give --checkpoint FILE, or --reference DIR of another fp32 bundle, to see the rest"
            )

    @contextlib.contextmanager
    def open(self, graph: str) -> Iterator[Network]:
        """See `Reference.open`."""
        found = load_graph(self._bundle.path(self._bundle.manifest.graphs[graph].file))
        if self._bundle.manifest.precision is Precision.FP16:
            editor = GraphEditor(found.model)
            widen(editor)
            found = OnnxGraph(editor.model, found.folder)
        yield OnnxNetwork(found, self._settings)


def other_bundle(reference: Bundle, judged: Bundle, threads: int | None = None) -> OnnxReference:
    """A second bundle as the reference.

    Raises:
        SettingsError: it is not fp32, or its graphs are not those of the judged one.
    """
    if reference.manifest.precision is not Precision.FP32:
        raise SettingsError(
            f"--reference {reference.folder} is a bundle of {reference.manifest.precision}, expected fp32; export the "
            "checkpoint with --precision fp32"
        )
    ours, theirs = (
        {name: (entry.spec.inputs, entry.spec.outputs) for name, entry in bundle.manifest.graphs.items()}
        for bundle in (judged, reference)
    )
    if ours != theirs:
        raise SettingsError(
            f"--reference {reference.folder} has the graphs {', '.join(sorted(theirs))}, the judged bundle "
            f"{', '.join(sorted(ours))}, or they differ in shape; export both of one checkpoint with the same options"
        )
    return OnnxReference(reference, own=False, threads=threads)
