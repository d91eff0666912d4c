"""The TensorRT backend. In: a bundle's plans, built for this machine. Out: engines that run on device memory.

The library is imported when it is needed, and the driver asked before: without one, TensorRT ends the process.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from engines.base import DEVICE_SETUP, EngineSettings, Footprint, Runner
from engines.bundle import Bundle
from engines.errors import (
    BundleHashError,
    DossrError,
    EngineBuildError,
    EngineError,
    EngineUnavailableError,
    SettingsError,
)
from engines.graphs import GraphSpec
from engines.memory import format_size
from engines.nvidia import advising_onnxruntime, driver, free_memory
from engines.profiles import Profile
from engines.trt_arena import Arena
from engines.trt_options import PlanOptions
from engines.trt_plans import BACKEND, PIECE, PLANS, Machine, PlanSet, build_command, default_options, find_plans

if TYPE_CHECKING:
    import tensorrt

_RESERVE = 1 << 30
"""Bytes of a GPU that are left free beside streamed weights and intermediate results."""
_log = logging.getLogger("dossr")


class TensorRT:
    """See `engines.base.Backend`. Engines that it opens for one stream share the memory they work in."""

    name = BACKEND

    def __init__(self) -> None:
        self._arenas: dict[int, Arena] = {}
        """By stream."""

    def open(self, bundle: Bundle, graph: str, settings: EngineSettings) -> Runner:
        """See `engines.base.Backend.open`."""
        described = self.prepare(settings)
        folder, plans = self._plans(bundle, settings)
        from engines.trt_run import TensorRtRunner

        index, record = device_index(settings), plans.graphs[graph]
        spec = bundle.manifest.graphs[graph].spec
        path, command = folder / f"{graph}.plan", f"run `{build_command(bundle)}` again"
        engine, streamed = _opened(
            path, spec, plans.options, bundle.path(record.onnx), index, sha256=record.sha256, command=command
        )
        arena = None
        if settings.memory is not None and settings.stream is not None:
            arena = self._arenas.setdefault(settings.stream, Arena(settings.memory))
        description = f"{described}, engine {folder.name}{streamed}"
        return TensorRtRunner(engine, spec, description, device=index, stream=settings.stream, arena=arena)

    def prepare(self, settings: EngineSettings) -> str:
        """See `engines.base.Backend.prepare`."""
        if settings.provider_options:
            names = ", ".join(name for name, _ in settings.provider_options)
            raise SettingsError(f"TensorRT takes no provider options, given {names}; leave them out")
        return _described(_machine(settings), settings)

    def place(self, settings: EngineSettings) -> str:
        """See `engines.base.Backend.place`."""
        return f"cuda:{device_index(settings)}"

    def profiles(self, bundle: Bundle, settings: EngineSettings) -> tuple[Profile, ...]:
        """See `engines.base.Backend.profiles`."""
        return self._plans(bundle, settings)[1].options.profiles

    def usable(self, bundle: Bundle, settings: EngineSettings) -> bool:
        """See `engines.base.Backend.usable`."""
        built = any((bundle.folder / PLANS).glob("[!.]*/manifest.json"))
        if settings.device.partition(":")[0] not in ("auto", "cuda") or settings.provider_options:
            return False
        if not built and not settings.rebuild:
            return False
        try:
            machine = _machine(settings)
            find_plans(bundle, machine)
        except DossrError as error:
            if settings.rebuild and isinstance(error, EngineUnavailableError) and _can_build(settings):
                return True
            _log.warning("the bundle's TensorRT engines are not used: %s", error)
            return False
        return True

    def footprint(self, bundle: Bundle, graph: str, settings: EngineSettings) -> Footprint:
        """See `engines.base.Backend.footprint`. Of the host's memory: a plan is read through a mapping, and its weights
        stay on the host only where they are streamed.
        """
        plans = self._plans(bundle, settings)[1]
        size = plans.graphs[graph].size
        return Footprint(opening=size, open=size if plans.options.weight_streaming else 0, running=0)

    def trim(self) -> None:
        """See `engines.base.Backend.trim`."""
        for arena in self._arenas.values():
            arena.free()

    def _plans(self, bundle: Bundle, settings: EngineSettings) -> tuple[Path, PlanSet]:
        """The plans that run here; built now where that is asked for and there are none."""
        machine = _machine(settings)
        try:
            return find_plans(bundle, machine)
        except EngineUnavailableError:
            if not settings.rebuild:
                raise
        from engines.trt_bundle import build_engines

        _log.warning("building TensorRT engines for %s into %s; this takes minutes", machine, bundle.folder)
        build_engines(bundle, device_index(settings), default_options(bundle), watch=lambda _what, _done: None)
        return find_plans(bundle, machine)


def device_index(settings: EngineSettings) -> int:
    """Which GPU: N of "cuda:N", else 0.

    Raises:
        EngineUnavailableError: the device is no NVIDIA GPU, or there is no driver or no such GPU.
    """
    device, _, index = settings.device.partition(":")
    if device not in ("auto", "cuda") or (index and not index.isdigit()):
        raise EngineUnavailableError(
            f"TensorRT runs on NVIDIA GPUs, not on {settings.device!r}; use --device cuda, or --engine onnxruntime"
        )
    with advising_onnxruntime():
        gpus = driver().gpus
    if int(index or 0) not in (gpu.index for gpu in gpus):
        there = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in gpus)
        raise EngineUnavailableError(f"there is no GPU {index} for device {settings.device!r}; use one of {there}")
    return int(index or 0)


def _machine(settings: EngineSettings) -> Machine:
    index = device_index(settings)  # asks the driver: the library comes after
    from engines.trt_library import machine

    return machine(index)


def _can_build(settings: EngineSettings) -> bool:
    try:
        return not _machine(settings).lean
    except EngineUnavailableError:
        return False


def _described(machine: Machine, settings: EngineSettings) -> str:
    library = "tensorrt lean" if machine.lean else "tensorrt"
    return f"{library} {machine.tensorrt}, cuda:{device_index(settings)}"


def open_plan(plan: Path, spec: GraphSpec, options: PlanOptions, onnx: Path, *, device: int, stream: int) -> Runner:
    """Opens a plan that this process has just built and that is in no bundle yet.

    Args:
        plan: its file.
        spec: of its graph.
        options: that it was built with.
        onnx: what it was built of.
        device: N of cuda:N.
        stream: address of the CUDA stream that calls are put on.

    Raises:
        EngineError: TensorRT cannot open it.
    """
    from engines.trt_run import TensorRtRunner

    engine, _ = _opened(plan, spec, options, onnx, device, sha256=None, command="build it again")
    return TensorRtRunner(engine, spec, f"plan {plan.name}", device=device, stream=stream, arena=None)


def _opened(
    path: Path,
    spec: GraphSpec,
    options: PlanOptions,
    onnx: Path,
    device: int,
    *,
    sha256: tuple[str, ...] | None,
    command: str,
) -> tuple[tensorrt.ICudaEngine, str]:
    """The engine of a plan, complete, and what is to be said of its weights."""
    from engines.trt_objects import working_on
    from engines.trt_tensors import check_tensors

    def complete() -> tuple[tensorrt.ICudaEngine, str]:
        engine = _deserialized(path, options, sha256, command)
        check_tensors(engine, spec)
        if options.strip_weights:
            from engines.trt_refit import refit

            refit(engine, onnx)
        return engine, _stream_weights(engine, device)

    with DEVICE_SETUP:
        return working_on(device, complete)


def _deserialized(
    path: Path, options: PlanOptions, sha256: tuple[str, ...] | None, command: str
) -> tensorrt.ICudaEngine:
    """The engine of a plan whose hash is right, where there is one to hold it to.

    Raises:
        BundleHashError: the file is not the one that was built.
        EngineError: TensorRT cannot open it.
    """
    from engines.trt_library import trt
    from engines.trt_log import LOG
    from engines.trt_messages import failure
    from engines.trt_objects import made

    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            view = memoryview(data)
            try:
                if sha256 is not None and piece_hashes(view) != sha256:
                    raise BundleHashError(f"{path} is not what was built (its sha256 differs); {command}")
                runtime = made(lambda: trt.Runtime(LOG), "runtime")
                # A version-compatible plan carries the lean runtime, which is code: it is what was built.
                runtime.engine_host_code_allowed = options.version_compatible
                with LOG.collecting() as said:
                    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(view)
            finally:
                view.release()
    except (OSError, ValueError) as error:
        raise BundleHashError(f"{path} cannot be read ({error}); {command}") from error
    if engine is None:
        raise EngineError(f"TensorRT {trt.__version__} cannot open {path}: {failure(said)}; {command}")
    return engine


def piece_hashes(data: memoryview) -> tuple[str, ...]:
    """sha256 of each `PIECE` bytes, on as many cores as there are."""

    def digest(begin: int) -> str:
        return hashlib.sha256(data[begin : begin + PIECE]).hexdigest()

    with ThreadPoolExecutor() as threads:
        return tuple(threads.map(digest, range(0, len(data), PIECE)))


def _stream_weights(engine: tensorrt.ICudaEngine, device: int) -> str:
    """Keeps the weights of an engine that can stream them on the GPU, as far as they fit; how many, in words."""
    weights = engine.streamable_weights_size
    if weights <= 0:
        return ""
    free = free_memory(device)
    budget = weights if free is None else max(0, min(weights, free - _RESERVE - engine.device_memory_size_v2))
    engine.weight_streaming_budget_v2 = budget
    if engine.weight_streaming_budget_v2 != budget:
        raise EngineBuildError(f"TensorRT refuses a budget of {format_size(budget)} for streamed weights")
    return "" if budget == weights else f", {format_size(weights - budget)} of weights streamed from the host"
