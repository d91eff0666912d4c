"""The plans of a whole bundle. In: a bundle, a GPU, options. Out: engines/tensorrt/<key>/, whole or not at all.

    engines/tensorrt/.<key>.part/lock            held by the build that writes here
    engines/tensorrt/.<key>.part/<graph>.plan    of each finished graph
    engines/tensorrt/.<key>.part/<graph>.json    its record; a graph is finished when this stands

What an interrupted build finished is used by the next one of the same key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engines.bundle import Bundle
from engines.errors import EngineBuildError, EngineUnavailableError, OutputNotWritableError
from engines.files import atomic_path
from engines.memory import format_size
from engines.nvidia import driver, free_memory
from engines.trt_options import PlanOptions
from engines.trt_plans import MANIFEST, PLANS, Machine, PlanRecord, PlanSet, onnx_file, parse_record, planned
from engines.trt_recipe import cache_path, plan_bytes, workspace

Watch = Callable[[str, float], None]
"""Called as (what is done, part of all that is done in 0..1)."""
Check = Callable[[str, Path], Mapping[str, Any]]
"""Whether a graph's plan is right: figures, or an exception. Called with the graph's name and the plan's path."""


def builder(device: int) -> Machine:
    """The GPU and the library that engines are built with here.

    Args:
        device: N of cuda:N.

    Raises:
        EngineUnavailableError: no driver, no such GPU, no TensorRT, or its lean runtime alone.
    """
    driver()  # before the library, which crashes without one
    from engines.trt_library import machine

    here = machine(device)
    if here.lean:
        raise EngineUnavailableError(
            "the lean runtime of TensorRT builds no engines; run `pip install tensorrt` on the machine that builds, or "
            "use --engine onnxruntime"
        )
    return here


def build_engines(
    bundle: Bundle,
    device: int,
    options: PlanOptions,
    *,
    watch: Watch,
    check: Check | None = None,
    timing_cache: bool = True,
    workspace_limit: int | None = None,
) -> PlanSet:
    """Builds a plan of every graph for a GPU of this machine.

    Args:
        bundle: whose graphs; it gets the plans.
        device: N of cuda:N.
        options: how.
        watch: is told how far it is.
        check: called for each plan before it is kept; None: their inputs and outputs alone are checked.
        timing_cache: whether times of earlier builds are used and kept.
        workspace_limit: bytes; None: from the memory that is free (`engines.trt_recipe.workspace`).

    Raises:
        EngineUnavailableError: no driver, GPU or builder.
        EngineBuildError: TensorRT cannot build a graph, or another build of the same key is at work.
        OutputNotWritableError: the bundle cannot be written, or the disk is too full.
    """
    here = builder(device)
    from engines.trt_build import PlanJob, build_plan

    plans = planned(bundle, here, options)
    names = list(bundle.manifest.graphs)
    files = {name: onnx_file(bundle, name, here.tensorrt) for name in names}
    sizes = {name: plan_bytes(bundle, files[name], options) for name in names}
    with _part(bundle, plans.key, sum(sizes.values())) as part:
        records: dict[str, PlanRecord] = {}
        whole, done = sum(sizes.values()) or 1, 0
        for name in names:
            if (kept := _kept(part, name)) is not None:
                watch(f"{name}: kept from the build before", done / whole)
                records[name] = kept
                done += sizes[name]
                continue

            def inside(phase: str, fraction: float, name: str = name, done: int = done) -> None:
                watch(f"{name}: {phase}", (done + fraction * sizes[name]) / whole)

            inside("TensorRT", 0.0)
            limit = workspace_limit if workspace_limit is not None else workspace(free_memory(device))
            job = PlanJob(
                graph=bundle.manifest.graphs[name].spec,
                onnx=bundle.path(files[name]),
                options=options,
                workspace=limit,
                device=device,
                timing_cache=cache_path(here) if timing_cache else None,
            )
            path = part / f"{name}.plan"
            built = build_plan(job, path, inside)
            verification = check(name, path) if check is not None else {}
            records[name] = PlanRecord(
                onnx=files[name],
                sha256=_hashes(path),
                size=path.stat().st_size,
                seconds=round(built.seconds, 3),
                messages=built.messages,
                verification=dict(verification),
            )
            _write(part / f"{name}.json", json.dumps(dataclasses.asdict(records[name])))
            done += sizes[name]
        finished = dataclasses.replace(plans, graphs=records, driver=driver().release or "")
        _write(part / MANIFEST, finished.to_json())
        _put_in_place(bundle, part, finished.key)
    return finished


def take_over(bundle: Bundle, before: PlanSet, now: PlanSet) -> None:
    """Makes what a build of `before` finished the beginning of one of `now`, which is of other ONNX files for some
    graphs; both as `engines.trt_plans.planned` gives them.
    """
    old, new = (_part_folder(bundle, plans.key) for plans in (before, now))
    if not old.is_dir() or old == new:
        return
    if new.exists():
        shutil.rmtree(old)
        return
    for name in (name for name, onnx in before.onnx.items() if now.onnx[name] != onnx):
        (old / f"{name}.json").unlink(missing_ok=True)
    old.rename(new)


def _part_folder(bundle: Bundle, key: str) -> Path:
    return bundle.folder / PLANS / f".{key}.part"


@contextlib.contextmanager
def _part(bundle: Bundle, key: str, needed: int) -> Iterator[Path]:
    """The folder in which the plans grow, locked. Without a finished graph it goes at the end."""
    part = _part_folder(bundle, key)
    try:
        part.mkdir(parents=True, exist_ok=True)
        lock = os.open(part / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise OutputNotWritableError(
            f"cannot write engines into {bundle.folder}: {error.strerror}; copy the bundle to a folder that is writable"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineBuildError(
                f"another process builds the same engines (lock {part / 'lock'}); wait for it to end"
            ) from error
        free = shutil.disk_usage(part).free
        if free < needed:
            raise OutputNotWritableError(
                f"the disk of {bundle.folder} has {format_size(free)} free, the engines need about "
                f"{format_size(needed)}; free some, or pass --strip-weights"
            )
        yield part
    finally:
        with contextlib.suppress(OSError):
            if part.is_dir() and not list(part.glob("*.json")):
                shutil.rmtree(part)
        os.close(lock)


def _kept(part: Path, name: str) -> PlanRecord | None:
    """A finished graph of the build before, if its plan is as it was written."""
    try:
        record = parse_record(json.loads((part / f"{name}.json").read_text(encoding="utf-8")))
        return record if _hashes(part / f"{name}.plan") == record.sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _put_in_place(bundle: Bundle, part: Path, key: str) -> None:
    """Renames the folder, over one of the same key."""
    for file in (part / "lock", *(path for path in part.glob("*.json") if path.name != MANIFEST)):
        file.unlink()
    target, old = bundle.folder / PLANS / key, bundle.folder / PLANS / f".{key}.old"
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _hashes(path: Path) -> tuple[str, ...]:
    from engines.trt import piece_hashes

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        try:
            return piece_hashes(view)
        finally:
            view.release()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
