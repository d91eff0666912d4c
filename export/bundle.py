"""The bundle's writer. In: `BuildSettings`. Out: a folder that `engines.bundle.open_bundle` reads, whole or not at all.

One network is in memory at a time: mapped, asked for its fp32 answers, cast, exported, freed, and then its ONNX files
run against the answers.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from engines.bundle import DefaultPlan, GraphEntry, Manifest, Precision, Schedule
from engines.graphs import axis_ranges
from engines.memory import trim_heap
from engines.trt_operators import LATEST, unsupported
from export.budget import check_budget, exceeded, mapped_bytes, needs
from export.checkpoint import Checkpoint
from export.limits import is_out_of_memory, limit_own_memory, restored_limit
from export.lowering import onnxruntime_cpu, onnxruntime_cuda, tensorrt_10_12
from export.lowering.cuda_kernels import without_kernel
from export.lowering.expansion import expanded
from export.onnx_export import export_graph
from export.output import check_out
from export.progress import Reporter
from export.settings import BuildSettings, build_key, tools
from export.source import Source, open_source
from export.stages import Stage, stages
from export.text_tower import PROMPT
from export.verification import expectations, verify
from export.workspace import Workspace, workspace
from export.wrappers import Graph
from runtime.plans import plan_of

_log = logging.getLogger("dossr")
_RELEASED_AFTER = 256 << 20
"""Bytes of fp32 weights that are read before their pages are given back."""


def build(settings: BuildSettings, reporter: Reporter) -> Manifest:
    """Exports a checkpoint.

    Raises:
        OutputExistsError: `out` holds something that is not a bundle.
        OutputNotWritableError: `out` cannot be written.
        MemoryBudgetError: a stage needs more than `max_memory`, or took more.
        ExportError: see `export.errors`. Finished graphs wait beside `out` and the error's note says so; there, or
            anywhere else, nothing half-written is left.
    """
    check_out(settings.out)
    reporter.stage("opening the checkpoint", 0.0)
    with torch.no_grad(), restored_limit():
        source = open_source(
            settings.checkpoint,
            settings.config,
            settings.context,
            t1=settings.t1,
            prediction=settings.prediction,
        )
        timesteps = baked_timesteps(source.schedule, settings)
        todo = stages(source, split_controlnet=settings.split_controlnet, timesteps=timesteps)
        check_budget(needs(source, todo, settings), settings.max_memory)
        with workspace(settings.out, resume=settings.resume) as space:
            manifest = _export(settings, source, todo, timesteps, space, reporter)
            space.complete(manifest)
    return manifest


def _export(
    settings: BuildSettings,
    source: Source,
    todo: list[Stage],
    timesteps: tuple[float, ...],
    space: Workspace,
    reporter: Reporter,
) -> Manifest:
    key = build_key(settings, source)
    if left := space.reuse(key, {stage.spec.name: stage.spec for stage in todo}):
        reporter.stage(f"{left} graphs of another build, or damaged, are not used again", 0.0)
    whole, done = sum(stage.cost for stage in todo), 0.0
    for stage in todo:
        name = stage.spec.name
        if name in space.finished:
            reporter.stage(f"{name}: kept from the build before", done / whole)
            whole -= stage.cost  # it took no time, so it tells nothing about what remains
            continue
        reporter.stage(f"{name}: exporting", done / whole)
        try:
            space.finish(_export_stage(settings, source, stage, timesteps, space.part), key)
        except Exception as error:
            if is_out_of_memory(error):
                raise exceeded(name, settings.max_memory, error) from error
            if settings.max_memory is not None:  # a refused allocation may come out as anything
                error.add_note(f"this was under --max-memory; if {name} seems sound, give it more")
            raise
        done += stage.cost
    return Manifest(
        precision=settings.precision,
        graphs={stage.spec.name: space.finished[stage.spec.name].entry for stage in todo},
        axes=axis_ranges(settings.static),
        files={path: record for kept in space.finished.values() for path, record in kept.files.items()},
        schedule=source.schedule,
        baked_timesteps=timesteps,
        prediction=settings.prediction,
        plan=DefaultPlan(steps=_default_steps(settings.bake_steps)),
        scale_factor=source.scale_factor,
        prompt=PROMPT if settings.context is None else "",
        checkpoint=_checkpoint_record(settings, key) | {"ignored_keys": dict(source.ignored)},
        tools=tools(),
    )


def _default_steps(baked: Sequence[int]) -> int:
    return DefaultPlan.steps if not baked or DefaultPlan.steps in baked else baked[0]


def baked_timesteps(schedule: Schedule, settings: BuildSettings) -> tuple[float, ...]:
    """Those that plans of `settings.bake_steps` steps call the network at, descending.

    Raises:
        SettingsError: a number of steps outside its range.
    """
    plans = (plan_of(schedule, settings.prediction, DefaultPlan(), steps, None) for steps in settings.bake_steps)
    return tuple(sorted({float(t) for plan in plans for t in plan.timesteps}, reverse=True))


def _export_stage(
    settings: BuildSettings, source: Source, stage: Stage, timesteps: tuple[float, ...], folder: Path
) -> GraphEntry:
    """Exports and verifies one graph into `folder`; the entry's paths are those of the bundle."""
    spec, checkpoint = stage.spec, source.checkpoint
    if settings.max_memory is not None:
        limit_own_memory(settings.max_memory - mapped_bytes(stage))
    module = stage.create().eval()
    checkpoint.release()
    expected = expectations(module, spec, settings.static, timesteps)
    checkpoint.release()
    if settings.precision is Precision.FP16:
        if settings.max_memory is not None:  # the fp32 pages go as the halves come
            limit_own_memory(settings.max_memory - _RELEASED_AFTER)
        halve(module, checkpoint)
    path = export_graph(module, spec, axis_ranges(settings.static), folder, settings.static)
    free(module)
    del module
    gc.collect()
    trim_heap()
    checkpoint.release()
    if settings.max_memory is not None:  # ONNX Runtime's mapping of the weights counts as the process's own
        limit_own_memory(settings.max_memory)
    place = Path("onnx") / spec.name
    verification = {"canonical": verify(path, spec, expected, settings.precision)}
    lowered = {}
    if "cpu" in settings.devices and (rewritten := onnxruntime_cpu.lower(path)) is not None:
        lowered[onnxruntime_cpu.BACKEND] = (place / rewritten.name).as_posix()
        verification[onnxruntime_cpu.BACKEND] = verify(rewritten, spec, expected, settings.precision)
    if "cuda" in settings.devices and (rewritten := onnxruntime_cuda.lower(path)) is not None:
        lowered[onnxruntime_cuda.BACKEND] = (place / rewritten.name).as_posix()
        with expanded(rewritten) as runnable:  # what is CUDA's alone computes nothing here: one case is enough
            figures = verify(runnable, spec, expected[:1], settings.precision)
        left = without_kernel(onnx.load(rewritten, load_external_data=False))
        verification[onnxruntime_cuda.BACKEND] = {**figures, "expanded": True, "without_kernel": left}
    if "cuda" in settings.devices and (rewritten := tensorrt_10_12.lower(path)) is not None:
        lowered[tensorrt_10_12.BACKEND] = (place / rewritten.name).as_posix()
        verification[tensorrt_10_12.BACKEND] = verify(rewritten, spec, expected[:1], settings.precision)
    verification["tensorrt-operators"] = tensorrt_operators(spec.name, path)
    trim_heap()
    return GraphEntry(spec=spec, file=(place / path.name).as_posix(), lowered=lowered, verification=verification)


def tensorrt_operators(name: str, path: Path) -> dict[str, Any]:
    """What the newest known TensorRT would refuse of a graph; it is said aloud, before a GPU is rented for it."""
    found = [str(finding) for finding in unsupported(path)]
    for finding in found:
        _log.warning("TensorRT %s does not take the graph %s: %s", LATEST, name, finding)
    return {"tensorrt": LATEST, "findings": found}


def halve(module: Graph, checkpoint: Checkpoint) -> None:
    """Casts the weights one by one, so that few are there in both precisions."""
    read = 0
    for tensor in (*module.parameters(), *module.buffers()):
        read += tensor.nbytes
        tensor.data = tensor.data.half()
        if read > _RELEASED_AFTER:
            checkpoint.release()
            read = 0
    module.half()


def free(module: nn.Module) -> None:
    """Frees the weights that are not the checkpoint's pages: torch keeps the traced graph, and they hang on it."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.untyped_storage().resizable():
            tensor.untyped_storage().resize_(0)


def _checkpoint_record(settings: BuildSettings, key: Mapping[str, Any]) -> dict[str, object]:
    path = settings.checkpoint
    record: dict[str, object] = {
        "file": path.name,
        "sha256": key["checkpoint"],
        "size": path.stat().st_size,
        "architecture": "weights" if settings.config is None else "config",
    }
    if settings.context is not None:
        record["context"] = {"file": settings.context.name, "sha256": key["context"]}
    return record
