"""The bundle's writer. In: `BuildSettings`. Out: a folder that `engines.bundle.open_bundle` reads, whole or not at all.

One network is in memory at a time: made, asked for its fp32 answers, cast, exported, freed, and then its ONNX files run
against the answers.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from engines.bundle import MANIFEST, FileRecord, GraphEntry, Manifest, Precision, parse_manifest
from engines.errors import BundleSchemaError, OutputExistsError, OutputNotWritableError
from engines.files import sha256_file
from engines.graphs import axis_ranges
from export.lowering import onnxruntime_cpu
from export.onnx_export import export_graph
from export.progress import Reporter
from export.source import Source, open_source
from export.stages import Stage, stages
from export.text_tower import PROMPT
from export.verification import expectations, verify

_LIBRARIES = ("torch", "diffusers", "onnx", "onnxscript", "onnxruntime", "dossr-deploy")


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """What to export and how."""

    checkpoint: Path
    out: Path
    precision: Precision
    config: Path | None = None
    context: Path | None = None
    split_controlnet: bool = False
    static: tuple[int, int] | None = None
    """(H, W) in latent pixels, multiples of 8; None: dynamic shapes."""
    prediction: str = Manifest.prediction
    t1: int | None = None
    """None: what the checkpoint's own tables say, else the released 500."""


def build(settings: BuildSettings, reporter: Reporter) -> Manifest:
    """Exports a checkpoint.

    Raises:
        OutputExistsError: `out` holds something that is not a bundle.
        OutputNotWritableError: `out` cannot be written.
        ExportError: see `export.errors`; nothing is left behind.
    """
    check_out(settings.out)
    reporter.stage("opening the checkpoint", 0.0)
    with torch.no_grad():
        source = open_source(
            settings.checkpoint,
            settings.config,
            settings.context,
            t1=settings.t1,
            prediction=settings.prediction,
        )
        with replaced_folder(settings.out) as folder:
            manifest = _export(settings, source, folder, reporter)
            manifest.write(folder)
    return manifest


def _export(settings: BuildSettings, source: Source, folder: Path, reporter: Reporter) -> Manifest:
    entries: dict[str, GraphEntry] = {}
    todo = stages(source, split_controlnet=settings.split_controlnet)
    whole, done = sum(stage.cost for stage in todo), 0.0
    for stage in todo:
        reporter.stage(f"{stage.spec.name}: exporting", done / whole)
        entries[stage.spec.name] = _export_stage(settings, stage, folder)
        done += stage.cost
    reporter.stage("hashing", 0.99)
    files = {
        path.relative_to(folder).as_posix(): FileRecord(sha256=sha256_file(path), size=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return Manifest(
        precision=settings.precision,
        graphs=entries,
        axes=axis_ranges(settings.static),
        files=files,
        schedule=source.schedule,
        prediction=settings.prediction,
        scale_factor=source.scale_factor,
        prompt=PROMPT if settings.context is None else "",
        checkpoint=_checkpoint_record(settings) | {"ignored_keys": dict(source.ignored)},
        tools=_tools(),
    )


def _export_stage(settings: BuildSettings, stage: Stage, folder: Path) -> GraphEntry:
    spec = stage.spec
    module = stage.create().eval()
    expected = expectations(module, spec, settings.static)
    if settings.precision is Precision.FP16:
        module.half()
    path = export_graph(module, spec, axis_ranges(settings.static), folder / "onnx" / spec.name, settings.static)
    del module
    gc.collect()
    verification = {"canonical": verify(path, spec, expected, settings.precision)}
    lowered = {}
    if (rewritten := onnxruntime_cpu.lower(path)) is not None:
        lowered[onnxruntime_cpu.BACKEND] = rewritten.relative_to(folder).as_posix()
        verification[onnxruntime_cpu.BACKEND] = verify(rewritten, spec, expected, settings.precision)
    file = path.relative_to(folder).as_posix()
    return GraphEntry(spec=spec, file=file, lowered=lowered, verification=verification)


def _checkpoint_record(settings: BuildSettings) -> dict[str, object]:
    path = settings.checkpoint
    record: dict[str, object] = {
        "file": path.name,
        "sha256": sha256_file(path),
        "size": path.stat().st_size,
        "architecture": "weights" if settings.config is None else "config",
    }
    if settings.context is not None:
        record["context"] = {"file": settings.context.name, "sha256": sha256_file(settings.context)}
    return record


def _tools() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions


def check_out(out: Path) -> None:
    """Refuses a place that holds anything but a bundle.

    Raises:
        OutputExistsError: it does.
    """
    if out.is_dir() and not out.is_symlink():
        names = {path.name for path in out.iterdir()}
        if not names or (names <= {MANIFEST, "onnx", "engines"} and _has_manifest(out)):
            return
    elif not out.exists() and not out.is_symlink():
        return
    raise OutputExistsError(f"{out} exists and is not a whole bundle, so it is not replaced; give another --out")


def _has_manifest(folder: Path) -> bool:
    try:
        parse_manifest((folder / MANIFEST).read_text(encoding="utf-8"), str(folder))
    except (OSError, UnicodeDecodeError, BundleSchemaError):
        return False
    return True


@contextlib.contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place when the block ends without an error; a bundle that stood
    there stays until then. On an error, Ctrl-C included, the temporary folder goes.

    Raises:
        OutputNotWritableError: the folder cannot be made or renamed.
    """
    out = out.absolute()
    parents = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise OutputNotWritableError(
            f"cannot write {out}: {error.strerror}; choose an --out in a folder that is writable"
        ) from error
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        _replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in parents:
            with contextlib.suppress(OSError):
                parent.rmdir()  # only what was made here, and only where it is empty


def _replace(temporary: Path, out: Path) -> None:
    check_out(out)  # an export takes minutes: somebody may have put something there
    old = temporary.with_suffix(".old")
    try:
        if out.exists():
            out.rename(old)
        try:
            temporary.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    except OSError as error:
        raise OutputNotWritableError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    shutil.rmtree(old, ignore_errors=True)
