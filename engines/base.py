"""What a backend is. In: a bundle and the name of one of its graphs. Out: a `Runner` that works on raw pointers.

    backend.open(bundle, "denoise", settings) -> Runner;  runner.bind({name: buffer}) -> Call;  call.run()

A new backend is one file with a class of `Backend`'s form, and one line in `engines.backends.BACKENDS`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from engines.bundle import Bundle
from engines.errors import EngineError
from engines.graphs import GraphSpec, parse_dim, resolve_shape
from engines.profiles import Profile

ITEM_SIZES = {"float32": 4, "float16": 2, "float64": 8, "uint8": 1, "int64": 8}
"""Bytes of one element of each dtype that crosses the boundary."""
DEVICE_SETUP = threading.RLock()
"""Held by whoever allocates device memory, and by whoever records a CUDA graph: an allocation in another thread would
break the recording."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How engines are opened."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N, or a name that the backend knows."""
    threads: int | None = None
    """CPU threads of one engine call; None: the cores that this process may use."""
    provider_options: tuple[tuple[str, str], ...] = ()
    """Passed on to the backend's library as they are (ONNX Runtime: options of the execution provider)."""
    stream: int | None = None
    """Address of the CUDA stream that calls are put on; None: the engine's own, and run() waits."""
    memory: Callable[[int], Buffer] | None = None
    """Makes so many bytes of device memory beside that stream; None: the engine takes its own."""
    rebuild: bool = False
    """Whether engines that are missing, or were built for another machine, are built now (minutes)."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What one graph's engine is expected to take, in bytes."""

    opening: int
    """The most while it is opened."""
    open: int
    """From then on, until it is closed."""
    running: int
    """On top of `open` while it runs, for each latent pixel."""


class Buffer(Protocol):
    """Contiguous memory of a tensor; `runtime._native.Tensor` is one."""

    @property
    def ptr(self) -> int:
        """Address of the first element."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, slowest axis first."""

    @property
    def dtype(self) -> str:
        """A key of `ITEM_SIZES`."""

    @property
    def nbytes(self) -> int:
        """Bytes that belong to the tensor."""

    @property
    def device(self) -> str:
        """Where the memory is: cpu, or cuda:N."""


class Call(Protocol):
    """A graph with its buffers bound; keeps them alive. Not for two threads at once."""

    def run(self) -> None:
        """Runs the graph once, reading and writing the bound buffers.

        Returns when it is done; with `EngineSettings.stream` and every buffer on the device, when it has been put on
        the stream.

        Raises:
            EngineError: the engine failed; the text holds its own words.
        """

    @property
    def recordable(self) -> bool:
        """Whether `run` now only puts work on the stream, so that a CUDA graph can be recorded of it."""

    @property
    def version(self) -> int:
        """Changes when a recorded graph of `run` must not be launched any more: the memory it works in has moved."""


class Runner(Protocol):
    """One opened graph."""

    @property
    def description(self) -> str:
        """What runs it, for people: "onnxruntime 1.32.0, CPUExecutionProvider"."""

    def bind(self, tensors: Mapping[str, Buffer]) -> Call:
        """Binds every input and output by name.

        Raises:
            EngineError: a name is missing or unknown, or a buffer's dtype or shape contradicts the graph's.
        """

    def close(self) -> None:
        """Frees the engine."""


class Backend(Protocol):
    """A library that runs graphs."""

    name: str

    def open(self, bundle: Bundle, graph: str, settings: EngineSettings) -> Runner:
        """Opens one graph of the bundle.

        Raises:
            EngineUnavailableError: the library, provider or device is not on this machine.
            EngineError: the library refused the graph.
        """

    def prepare(self, settings: EngineSettings) -> str:
        """Loads the library and looks for the device; what will run, for people.

        Raises:
            EngineUnavailableError: either is not on this machine.
            SettingsError: the settings contradict each other.
        """

    def place(self, settings: EngineSettings) -> str:
        """Where the buffers of `Runner.bind` should be, so that nothing is copied: "cpu", or "cuda:N".

        Raises:
            EngineUnavailableError: see `prepare`.
        """

    def profiles(self, bundle: Bundle, settings: EngineSettings) -> tuple[Profile, ...]:
        """The ranges of shapes that every engine of the bundle takes.

        Raises:
            EngineUnavailableError: see `prepare`; or engines were not built for this machine.
        """

    def usable(self, bundle: Bundle, settings: EngineSettings) -> bool:
        """Whether "auto" may choose it. What is there and goes unused is said in the log."""

    def footprint(self, bundle: Bundle, graph: str, settings: EngineSettings) -> Footprint:
        """An estimate of the memory that the graph will take, from the sizes of its files."""

    def trim(self) -> None:
        """Gives back memory that is only kept for the next run's intermediate results."""


def check_buffers(spec: GraphSpec, tensors: Mapping[str, Buffer]) -> None:
    """Names, dtypes, shapes, byte counts and null pointers of all buffers, against the graph's table.

    Raises:
        EngineError: the first contradiction, with both sides.
    """
    specs = (*spec.inputs, *spec.outputs)
    if tensors.keys() != {s.name for s in specs}:
        raise EngineError(f"graph {spec.name} takes {sorted(s.name for s in specs)}, given {sorted(tensors)}")
    sizes: dict[str, int] = {}
    for tensor_spec in specs:
        buffer = tensors[tensor_spec.name]
        given = f"{spec.name}.{tensor_spec.name} was given {buffer.dtype}{list(buffer.shape)}"
        if buffer.dtype != tensor_spec.dtype or len(buffer.shape) != len(tensor_spec.shape):
            raise EngineError(f"{given}, expected {tensor_spec.dtype}{list(tensor_spec.shape)}")
        for dim, size in zip(tensor_spec.shape, buffer.shape, strict=True):
            if isinstance(dim, str):
                axis, numerator, denominator = parse_dim(dim)
                sizes.setdefault(axis, size * denominator // numerator)
        expected = resolve_shape(tensor_spec.shape, sizes)
        if tuple(buffer.shape) != expected:
            raise EngineError(f"{given}, expected {list(expected)} = {list(tensor_spec.shape)}")
        count = ITEM_SIZES[buffer.dtype]
        for size in expected:
            count *= size
        if buffer.nbytes != count or (count and not buffer.ptr):
            raise EngineError(f"{given} with {buffer.nbytes} bytes at address {buffer.ptr}, expected {count} bytes")
