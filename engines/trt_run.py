"""Opened plans. In: an engine and device buffers. Out: calls that put one run on the stream.

Every call has an execution context of its own, whose shapes and addresses are set once: a CUDA graph that was recorded
of it stays right as long as nothing of its context changes (TensorRT's documentation, "CUDA Graphs").
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from math import prod

from engines.base import DEVICE_SETUP, Buffer, Call, check_buffers
from engines.errors import EngineError, EngineUnavailableError
from engines.graphs import GraphSpec
from engines.memory import format_size
from engines.nvidia import on_gpu
from engines.trt_arena import Arena
from engines.trt_library import trt
from engines.trt_log import LOG
from engines.trt_messages import failure
from engines.trt_objects import working_on


class TensorRtRunner:
    """One graph's engine. See `engines.base.Runner`.

    Args:
        engine: deserialized, its weights complete.
        spec: of its graph.
        description: see `engines.base.Runner`.
        device: N of cuda:N.
        stream: address of the CUDA stream that calls are put on.
        arena: shared with the other engines of that stream; None: each context has memory of its own.
    """

    def __init__(
        self,
        engine: trt.ICudaEngine,
        spec: GraphSpec,
        description: str,
        *,
        device: int,
        stream: int | None,
        arena: Arena | None,
    ) -> None:
        self._engine: trt.ICudaEngine | None = engine
        self._spec, self._device, self._stream, self._arena = spec, device, stream, arena
        self.description = description

    def bind(self, tensors: Mapping[str, Buffer]) -> Call:
        """See `engines.base.Runner.bind`."""
        with DEVICE_SETUP:
            return working_on(self._device, lambda: self._bound(tensors))

    def close(self) -> None:
        """Frees the engine once no `Call` holds it."""
        with on_gpu(self._device), DEVICE_SETUP:
            self._engine = None

    def __del__(self) -> None:
        """Of one that nobody closed."""
        with contextlib.suppress(EngineUnavailableError), on_gpu(self._device):  # there its memory is freed
            self._engine = None

    def _bound(self, tensors: Mapping[str, Buffer]) -> _TensorRtCall:
        """See `bind`."""
        engine, stream = self._engine, self._stream
        if engine is None:
            raise EngineError(f"graph {self._spec.name} is closed; open the Upscaler again")
        check_buffers(self._spec, tensors)
        place = f"cuda:{self._device}"
        if stream is None or any(tensor.device != place for tensor in tensors.values()):
            given = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
            raise EngineError(
                f"TensorRT takes memory of {place} and a stream there, given {given} and "
                f"{'no stream' if stream is None else 'a stream'}; it needs our CUDA kernels: install nvcc, then "
                "`pip install --force-reinstall --no-deps .`, or use --engine onnxruntime"
            )
        shapes = {spec.name: tuple(tensors[spec.name].shape) for spec in self._spec.inputs}
        profile = self._profile(engine, shapes)
        with LOG.collecting() as said:
            try:
                context = self._context(engine, profile, shapes, stream)
                for name, tensor in tensors.items():
                    _demand(context.set_tensor_address(name, tensor.ptr), f"the address of {name}")
                for spec in self._spec.outputs:
                    found = _sizes(context.get_tensor_shape(spec.name))
                    if found != tuple(tensors[spec.name].shape):
                        raise _RefusedError(f"{spec.name} of {tensors[spec.name].shape}, it gives {found}")
            except (_RefusedError, RuntimeError) as error:  # the bindings raise RuntimeError for some refusals
                raise EngineError(
                    f"TensorRT refuses {error} of graph {self._spec.name} with inputs {shapes}: "
                    f"{failure(said) or 'it does not say why'}; build the engines again"
                ) from error
        call = _TensorRtCall(
            context,
            dict(tensors),
            self._spec.name,
            device=self._device,
            stream=stream,
            profile=profile,
            arena=self._arena,
        )
        call.reserve()
        return call

    def _context(
        self, engine: trt.ICudaEngine, profile: int, shapes: Mapping[str, tuple[int, ...]], stream: int
    ) -> trt.IExecutionContext:
        """A context for inputs of these shapes, which the profile takes."""
        strategies = trt.ExecutionContextAllocationStrategy
        own = strategies.STATIC if self._arena is None else strategies.USER_MANAGED
        context: trt.IExecutionContext | None = engine.create_execution_context(own)
        if context is None:
            raise _RefusedError("an execution context")
        _demand(context.set_optimization_profile_async(profile, stream), f"profile {profile}")
        for name, shape in shapes.items():
            _demand(context.set_input_shape(name, shape), f"the shape of {name}")
        if unknown := context.infer_shapes():
            raise _RefusedError(f"shapes without {', '.join(unknown)}")
        return context

    def _profile(self, engine: trt.ICudaEngine, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """The profile that takes these shapes, the narrowest of several.

        Raises:
            EngineError: there is none.
        """
        fitting: list[tuple[int, int]] = []
        ranges: list[str] = []
        for index in range(engine.num_optimization_profiles):
            limits = {name: _limits(engine, name, index) for name in shapes}
            ranges.append(" ".join(f"{name} {least}..{most}" for name, (least, _, most) in limits.items()))
            if all(_within(shapes[name], least, most) for name, (least, _, most) in limits.items()):
                fitting.append((sum(prod(most) for _, _, most in limits.values()), index))
        if not fitting:
            raise EngineError(
                f"no profile of the engine of graph {self._spec.name} takes {dict(shapes)}; it takes "
                f"{' or '.join(ranges)}; build engines with another --profile"
            )
        return min(fitting)[1]


class _TensorRtCall:
    """See `engines.base.Call`."""

    def __init__(
        self,
        context: trt.IExecutionContext,
        tensors: Mapping[str, Buffer],
        graph: str,
        *,
        device: int,
        stream: int,
        profile: int,
        arena: Arena | None,
    ) -> None:
        self._context = context
        self._tensors = tensors  # the context holds bare addresses
        self._graph, self._device, self._stream, self._arena = graph, device, stream, arena
        self._profile = profile
        self._works_in = -1
        self._ran_in = -1

    @property
    def recordable(self) -> bool:
        """A first run, and maybe the first one in other memory, sets up what a recording must not hold."""
        return self._ran_in == self.version

    @property
    def version(self) -> int:
        return self._arena.version if self._arena is not None else 0

    def run(self) -> None:
        with on_gpu(self._device), LOG.collecting() as said:
            if self._arena is not None and self._works_in != self._arena.version:
                self._move(self._arena)
            if not self._context.execute_async_v3(self._stream):
                raise EngineError(
                    f"TensorRT failed in graph {self._graph}: {failure(said) or 'it does not say why'}; if memory ran "
                    "out, take a smaller image or batch"
                )
        self._ran_in = self.version

    def reserve(self) -> None:
        """Makes the arena hold what a run needs.

        Raises:
            MemoryBudgetError: it does not fit.
        """
        if self._arena is not None:
            self._arena.reserve(self._needed())

    def _needed(self) -> int:
        """Bytes for intermediate results: of these shapes, or of the profile's largest where TensorRT does not say."""
        engine: trt.ICudaEngine = self._context.engine
        return self._context.update_device_memory_size_for_shapes() or engine.get_device_memory_size_for_profile_v2(
            self._profile
        )

    def _move(self, arena: Arena) -> None:
        """Makes the context work in the arena where it is now."""
        with DEVICE_SETUP:
            self.reserve()
        with LOG.collecting() as said:
            if arena.nbytes:
                self._context.set_device_memory(arena.ptr, arena.nbytes)
            if refusal := failure(said):  # it has no other way to say so, and would go on in the block before
                raise EngineError(
                    f"TensorRT does not take {format_size(arena.nbytes)} of memory for graph {self._graph}: {refusal}; "
                    "build the engines again"
                )
        self._works_in = arena.version

    def __del__(self) -> None:
        with contextlib.suppress(EngineUnavailableError), on_gpu(self._device):  # there its memory is freed
            del self._context


class _RefusedError(Exception):
    """What TensorRT does not take; told with what it says itself."""


def _demand(taken: bool, what: str) -> None:
    if not taken:
        raise _RefusedError(what)


def _limits(engine: trt.ICudaEngine, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
    """Smallest, optimal and largest shape of an input."""
    shape = _sizes(engine.get_tensor_shape(name))
    if -1 not in shape:  # profiles say nothing of an input without dynamic axes
        return (shape, shape, shape)
    return tuple(map(_sizes, engine.get_tensor_profile_shape(name, profile)))


def _sizes(dims: trt.Dims) -> tuple[int, ...]:
    return tuple(dims[axis] for axis in range(len(dims)))


def _within(shape: tuple[int, ...], least: tuple[int, ...], most: tuple[int, ...]) -> bool:
    return len(shape) == len(least) and all(a <= size <= b for a, size, b in zip(least, shape, most, strict=True))
