"""One graph's plan. In: an ONNX file, a recipe. Out: a plan file, checked against the graph's inputs and outputs.

TensorRT works in a thread of its own, so that Ctrl-C reaches this one and cancels it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from engines.errors import EngineBuildError
from engines.files import atomic_path
from engines.graphs import GraphSpec
from engines.profiles import Profile
from engines.trt_library import trt
from engines.trt_log import LOG
from engines.trt_messages import Message, failure, summary
from engines.trt_monitor import Monitor, Watch
from engines.trt_objects import made, working_on
from engines.trt_options import PlanOptions
from engines.trt_recipe import CLEARED_FLAGS, HARDWARE_LEVELS, NETWORK_FLAGS, Shapes, builder_flags, input_shapes
from engines.trt_tensors import check_tensors
from engines.trt_timing import load, save


@dataclass(frozen=True, kw_only=True)
class PlanJob:
    """What to build of what."""

    graph: GraphSpec
    onnx: Path
    """Its weights lie beside it."""
    options: PlanOptions
    workspace: int | None
    """Bytes; see `engines.trt_recipe.workspace`."""
    device: int
    """N of cuda:N."""
    timing_cache: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Built:
    """What came of it, besides the file."""

    seconds: float
    messages: tuple[str, ...]
    """What TensorRT said; see `engines.trt_messages.summary`."""
    layers: int
    device_memory: int
    """Bytes of intermediate results, of the largest profile; the arena's share."""


def build_plan(job: PlanJob, out: Path, watch: Watch) -> Built:
    """Builds one plan into `out`, whole or not at all.

    Raises:
        EngineBuildError: TensorRT cannot read or compile the graph, with its words and what to do; or what it compiled
            has other inputs or outputs.
        KeyboardInterrupt: Ctrl-C, after TensorRT has stopped.
    """
    begin = time.monotonic()
    monitor = Monitor(watch)
    with LOG.collecting() as said, ThreadPoolExecutor(1, "dossr-tensorrt-build") as thread:
        running = thread.submit(_build, job, out, monitor, said)
        try:
            layers, memory = running.result()
        except BaseException:
            monitor.cancel()  # Ctrl-C came to this thread: TensorRT stops at its next step, and the block waits for it
            raise
    return Built(seconds=time.monotonic() - begin, messages=summary(said), layers=layers, device_memory=memory)


def _build(job: PlanJob, out: Path, monitor: Monitor, said: Sequence[Message]) -> tuple[int, int]:
    """Layers and bytes of device memory of the plan that it wrote."""
    return working_on(job.device, lambda: _written(job, out, monitor, said))


def _written(job: PlanJob, out: Path, monitor: Monitor, said: Sequence[Message]) -> tuple[int, int]:
    """See `_build`, on the GPU."""
    builder = made(lambda: trt.Builder(LOG), "builder", EngineBuildError)
    network = builder.create_network(_bits(trt.NetworkDefinitionCreationFlag, NETWORK_FLAGS))
    parser = made(lambda: trt.OnnxParser(network, LOG), "parser", EngineBuildError)
    if not parser.parse_from_file(str(job.onnx)):
        raise EngineBuildError(_parser_errors(job, parser, said))
    make_attention_decomposable(network)
    config = configured(job, builder, network, monitor)
    if job.timing_cache is not None:
        load(config, job.timing_cache)
    try:
        plan = builder.build_serialized_network(network, config)
    finally:
        if job.timing_cache is not None:  # a build that was stopped or failed has measured, too
            save(config, job.timing_cache)
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise EngineBuildError(_build_error(job, said))
    with atomic_path(out) as temporary:
        temporary.write_bytes(memoryview(plan))
        return _checked(job, plan, said)


def configured(
    job: PlanJob, builder: trt.Builder, network: trt.INetworkDefinition, monitor: trt.IProgressMonitor
) -> trt.IBuilderConfig:
    """The config of a job.

    Raises:
        EngineBuildError: TensorRT refuses a profile.
    """
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    config.builder_optimization_level = job.options.optimization_level
    config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.__members__[
        HARDWARE_LEVELS[job.options.hardware_compatible]
    ]
    config.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    if job.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace)
    for name in CLEARED_FLAGS:
        config.clear_flag(trt.BuilderFlag.__members__[name])
    for name in builder_flags(job.options):
        config.set_flag(trt.BuilderFlag.__members__[name])
    for name in job.options.preview_features:
        if (feature := trt.PreviewFeature.__members__.get(name)) is not None:
            config.set_preview_feature(feature, True)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dynamic = [tensor for tensor in inputs if any(tensor.shape[axis] == -1 for axis in range(len(tensor.shape)))]
    for wanted in job.options.profiles:
        shapes = input_shapes(job.graph, wanted)
        if job.options.static:  # without dynamic axes TensorRT computes every shape while it builds
            for tensor in dynamic:
                tensor.shape = trt.Dims(shapes[tensor.name][1])
        elif dynamic:
            _add_profile(builder, config, {tensor.name: shapes[tensor.name] for tensor in dynamic}, job, wanted)
    return config


def _add_profile(
    builder: trt.Builder, config: trt.IBuilderConfig, shapes: Mapping[str, Shapes], job: PlanJob, wanted: Profile
) -> None:
    profile = builder.create_optimization_profile()
    refused = f"TensorRT refuses the profile {wanted} for graph {job.graph.name}: {dict(shapes)}"
    try:
        for name, sizes in shapes.items():
            least, optimal, most = (trt.Dims(shape) for shape in sizes)
            profile.set_shape(name, least, optimal, most)
    except RuntimeError as error:  # the bindings raise it for what the library does not take
        raise EngineBuildError(f"{refused}; pass another --profile") from error
    if config.add_optimization_profile(profile) < 0:
        raise EngineBuildError(f"{refused}; pass another --profile")


def make_attention_decomposable(network: trt.INetworkDefinition) -> int:
    """Lets TensorRT build each attention of other kernels where no fused one fits, instead of failing; how many there
    are. Libraries before 10.14 have none.
    """
    boundary = trt.LayerType.__members__.get("ATTENTION_INPUT")
    count = 0
    for i in range(network.num_layers if boundary is not None else 0):
        layer = network.get_layer(i)
        if layer.type == boundary:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings give the base class
            if isinstance(layer, trt.IAttentionInputLayer):
                layer.attention.decomposable = True
                count += 1
    return count


def _bits(kind: type[trt.NetworkDefinitionCreationFlag], names: Sequence[str]) -> int:
    return sum(1 << int(kind.__members__[name]) for name in names)


def _checked(job: PlanJob, plan: trt.IHostMemory, said: Sequence[Message]) -> tuple[int, int]:
    """The plan's inputs and outputs are the graph's: a builder that lost the types has shipped float32 before."""
    runtime = made(lambda: trt.Runtime(LOG), "runtime", EngineBuildError)
    runtime.engine_host_code_allowed = True  # version-compatible plans carry the lean runtime, which was made here
    engine = runtime.deserialize_cuda_engine(memoryview(plan))
    if engine is None:
        raise EngineBuildError(f"TensorRT built graph {job.graph.name} and cannot open it: {failure(said)}")
    check_tensors(engine, job.graph, EngineBuildError)
    return engine.num_layers, engine.device_memory_size_v2


def _parser_errors(job: PlanJob, parser: trt.OnnxParser, said: Sequence[Message]) -> str:
    errors: list[trt.ParserError] = [parser.get_error(i) for i in range(parser.num_errors)]
    words = [
        f"node {error.node_name() or error.node()} ({error.node_operator() or 'unknown operator'}): {error.desc()}"
        for error in errors
    ]
    found = failure([Message(severe=True, text=text) for text in words] or said)
    return (
        f"TensorRT {trt.__version__} cannot read graph {job.graph.name} ({job.onnx}): {found or 'it does not say why'}"
    )


def _build_error(job: PlanJob, said: Sequence[Message]) -> str:
    found = failure(said) or "it does not say why; run again with --optimization-level 4, or a smaller --profile"
    return f"TensorRT {trt.__version__} cannot build graph {job.graph.name}: {found}"
