"""The engines that are judged. In: a bundle. Out: `Candidate`s: every backend and device that this machine has, and the
canonical files themselves, which other backends and devices are made of.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engines.backends import BACKENDS, backend_named
from engines.base import EngineSettings
from engines.bundle import Bundle, Precision
from engines.errors import EngineUnavailableError, SettingsError
from engines.graphs import UPSCALE, VAE_FACTOR, GraphSpec, parse_dim, resolve_shape
from engines.memory import trim_heap
from engines.ort import PROVIDERS
from engines.profiles import Profile
from export.figures import FP16_ARITHMETIC, GATES, Array, Gate
from export.verifying.device import DeviceStream, unavailable
from export.verifying.onnx_graph import OnnxGraph, load_graph
from export.verifying.rounding import rounded
from export.verifying.sessions import Session, SessionSettings

CANONICAL = "canonical"

Run = Callable[[Mapping[str, Array]], dict[str, Array]]
"""Inputs by name to outputs by name, float32."""


class Candidate(Protocol):
    """One way of running a bundle's graphs."""

    name: str
    description: str
    gate: Gate
    """What its outputs may differ by."""

    def open(self, graphs: Sequence[str]) -> contextlib.AbstractContextManager[Mapping[str, Run]]:
        """The graphs, opened, until the end of the block.

        Raises:
            EngineError: the engine refuses one.
        """

    def inside(self, graph: str) -> Inside | None:
        """The graph in a form whose intermediate results can be looked at; None where the engine has none."""


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What an engine runs, to be looked into."""

    graph: OnnxGraph
    settings: SessionSettings
    half: OnnxGraph | None = None
    """The fp16 graph that `graph` rounds as; islands of it can be tried in float32."""


class Engine:
    """A backend on a device, run as the runtime runs it; see `Candidate`."""

    def __init__(self, bundle: Bundle, backend: str, device: str, threads: int | None) -> None:
        self.name = f"{backend}-{device}"
        self._bundle, self._backend_name, self._device = bundle, backend, device
        self._backend = backend_named(backend)
        self._settings = EngineSettings(device=device, threads=threads)
        self.description = self._backend.prepare(self._settings)
        half = bundle.manifest.precision is Precision.FP16
        self.gate = FP16_ARITHMETIC if half and device != "cpu" else GATES[bundle.manifest.precision]

    @contextlib.contextmanager
    def open(self, graphs: Sequence[str]) -> Iterator[Mapping[str, Run]]:
        """See `Candidate.open`."""
        stream = self._stream()
        settings = self._settings if stream is None else dataclasses.replace(self._settings, stream=stream.ptr)
        runners = {name: self._backend.open(self._bundle, name, settings) for name in graphs}
        specs = {name: self._bundle.manifest.graphs[name].spec for name in graphs}
        profiles = self._backend.profiles(self._bundle, settings)

        def run(name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
            outputs = empty_outputs(specs[name], inputs)
            given = {spec.name: np.ascontiguousarray(inputs[spec.name]) for spec in specs[name].inputs}
            if stream is None:
                runners[name].bind({key: _HostBuffer(array) for key, array in (given | outputs).items()}).run()
            else:
                _check_size(specs[name], inputs, profiles)
                stream.call(runners[name], given, outputs)
            return outputs

        try:
            yield {name: lambda inputs, name=name: run(name, inputs) for name in graphs}  # type: ignore[misc]
        finally:
            for runner in runners.values():
                runner.close()
            self._backend.trim()

    def _stream(self) -> DeviceStream | None:
        """For engines that take device memory alone."""
        if self._backend_name == "onnxruntime":
            return None
        place = self._backend.place(self._settings)
        if reason := unavailable(place):
            raise EngineUnavailableError(f"it works on memory of {place}, where nothing of ours runs: {reason}")
        return DeviceStream(place)

    def inside(self, graph: str) -> Inside | None:
        """See `Candidate.inside`."""
        if self._backend_name != "onnxruntime":
            return None
        entry = self._bundle.manifest.graphs[graph]
        path = self._bundle.path(entry.lowered.get(self.name, entry.file))
        settings = SessionSettings(provider=PROVIDERS[self._device], optimized=True, threads=self._settings.threads)
        return Inside(graph=load_graph(path), settings=settings)


class Canonical:
    """The canonical ONNX files; see `Candidate`."""

    name = CANONICAL

    def __init__(self, bundle: Bundle, threads: int | None) -> None:
        self._bundle = bundle
        self._half = bundle.manifest.precision is Precision.FP16
        self._settings = SessionSettings(threads=threads)
        self.description = "the canonical ONNX files as they stand, on the CPU"
        self.gate = GATES[bundle.manifest.precision]
        if self._half:
            self.description = "the canonical ONNX files on the CPU, every result rounded to fp16 where they say so"
            self.gate = FP16_ARITHMETIC

    @contextlib.contextmanager
    def open(self, graphs: Sequence[str]) -> Iterator[Mapping[str, Run]]:
        """See `Candidate.open`."""
        sessions = {}
        for name in graphs:
            graph = self._load(name)
            sessions[name] = Session(graph.model, graph.folder, self._settings)
        try:
            yield {name: session.run for name, session in sessions.items()}
        finally:
            sessions.clear()
            trim_heap()

    def inside(self, graph: str) -> Inside | None:
        """See `Candidate.inside`."""
        path = self._bundle.path(self._bundle.manifest.graphs[graph].file)
        half = load_graph(path) if self._half else None
        return Inside(graph=self._load(graph), settings=self._settings, half=half)

    def _load(self, name: str) -> OnnxGraph:
        graph = load_graph(self._bundle.path(self._bundle.manifest.graphs[name].file))
        return rounded(graph) if self._half else graph


def candidates(bundle: Bundle, *, canonical: bool, wanted: Sequence[str], threads: int | None) -> list[Candidate]:
    """Every engine that is present, or those of them that are wanted.

    Args:
        bundle: whose graphs.
        canonical: whether the canonical files are judged too: not where they are the reference.
        wanted: names; empty: all.
        threads: of the CPU.

    Raises:
        SettingsError: no engine of a wanted name is present.
    """
    found: dict[str, Callable[[], Candidate]] = {}
    if canonical:
        found[CANONICAL] = lambda: Canonical(bundle, threads)
    for backend in BACKENDS:
        for device in PROVIDERS if backend == "onnxruntime" else ("auto",):
            with contextlib.suppress(EngineUnavailableError):
                engine = Engine(bundle, backend, device, threads)
                found[engine.name] = lambda engine=engine: engine  # type: ignore[misc]
    if missing := [name for name in wanted if name not in found]:
        raise SettingsError(
            f"no engine {', '.join(missing)} can be judged here, expected {', '.join(found)}; install it, or leave "
            "--engine out"
        )
    return [found[name]() for name in (wanted or found)]


def empty_outputs(spec: GraphSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of the shapes that the graph's outputs have for these inputs."""
    sizes = _axis_sizes(spec, inputs)
    return {tensor.name: np.zeros(resolve_shape(tensor.shape, sizes), np.float32) for tensor in spec.outputs}


def _axis_sizes(spec: GraphSpec, inputs: Mapping[str, Array]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for tensor in spec.inputs:
        for dim, size in zip(tensor.shape, inputs[tensor.name].shape, strict=True):
            if isinstance(dim, str):
                axis, numerator, denominator = parse_dim(dim)
                sizes[axis] = size * denominator // numerator
    return sizes


def _check_size(spec: GraphSpec, inputs: Mapping[str, Array], profiles: Sequence[Profile]) -> None:
    """Whether engines of these profiles take the inputs as they are: what the runtime pads is not judged here.

    Raises:
        EngineUnavailableError: no.
    """
    sizes = _axis_sizes(spec, inputs)
    low = VAE_FACTOR // UPSCALE
    height, width = (sizes.get(axis, sizes.get(axis.lower(), 0) // low) for axis in "HW")
    size = (sizes["B"], height, width)
    if not any(profile.covers(size) and profile.padded(size) == size for profile in profiles):
        taken = " or ".join(map(str, profiles))
        raise EngineUnavailableError(
            f"its engines take latents of {taken}, the sample's is {'x'.join(map(str, size))}; give an --image of "
            "a size that they take, whose sides are twice the latent's"
        )


class _HostBuffer:
    """A NumPy array as `engines.base.Buffer`."""

    device = "cpu"

    def __init__(self, array: Array) -> None:
        self._array = array
        self.ptr = int(array.ctypes.data)
        self.shape = tuple(array.shape)
        self.dtype = str(array.dtype)
        self.nbytes = int(array.nbytes)
