"""The bundle: the folder that passes from `export` to `runtime`. In: a folder. Out: a checked `Manifest`.

manifest.json   onnx/<graph>/model.onnx (+ model.onnx.data)   engines/<backend>/<key>/<graph>.*
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from engines import hash_cache
from engines.errors import BundleHashError, BundleNotFoundError, BundlePathError, BundleSchemaError
from engines.files import atomic_path
from engines.graphs import AxisRange, GraphSpec, TensorSpec, parse_dim

SCHEMA = 1
MANIFEST = "manifest.json"


class Precision(StrEnum):
    """Of the weights and the arithmetic inside the graphs; inputs and outputs are float32 in each."""

    FP32 = "fp32"
    FP16 = "fp16"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What the checkpoint was trained on; the arguments of `solvers.plan` of the same names."""

    beta_start: float = 0.00085
    beta_end: float = 0.012
    train_timesteps: int = 1000
    t1: int = 500
    shifting: str = "cosine"


@dataclass(frozen=True, kw_only=True)
class DefaultPlan:
    """The sampler that is used where a call names none."""

    solver: str = "dos-sde"
    steps: int = 5
    order: int = 3


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file of the bundle as it was written."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class GraphEntry:
    """A graph and its files, paths relative to the bundle with forward slashes."""

    spec: GraphSpec
    file: str
    """The canonical ONNX file."""
    lowered: Mapping[str, str] = field(default_factory=dict)
    """Backend name to the ONNX file rewritten for it; shares the canonical file's weights."""
    verification: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the comparison with the fp32 torch module, by form; of a form for TensorRT, which operators of it are
    computed in float32, and why."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that the runtime knows about a bundle."""

    precision: Precision
    graphs: Mapping[str, GraphEntry]
    axes: Mapping[str, AxisRange]
    files: Mapping[str, FileRecord]
    schedule: Schedule = Schedule()
    baked_timesteps: tuple[float, ...] = ()
    """The only ones that the network takes; none: any."""
    prediction: str = "x0-from-eps"
    plan: DefaultPlan = DefaultPlan()
    scale: int = 4
    scale_factor: float = 0.18215
    prompt: str = ""
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    """file, sha256 and size of the source checkpoint, and whether the architecture came from a config."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of Python and of each library that took part."""
    verified: Mapping[str, Any] = field(default_factory=dict)
    """What the last `dossr verify` found; empty where there was none."""
    schema: int = SCHEMA

    @property
    def separate_condition(self) -> bool:
        """Whether `condition` is a graph of its own; otherwise it is `latent_mean`."""
        return "condition" in self.graphs

    def to_json(self) -> str:
        """The manifest as `manifest.json` holds it."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> None:
        """Writes `manifest.json` into the folder, whole or not at all."""
        with atomic_path(folder / MANIFEST) as path:
            path.write_text(self.to_json(), encoding="utf-8")


def parse_manifest(text: str, where: str) -> Manifest:
    """A manifest from its JSON; `where` names it in errors.

    Raises:
        BundleSchemaError: not JSON, a missing or mistyped field, or a schema newer than `SCHEMA`.
    """
    try:
        raw = json.loads(text)
        schema = int(raw["schema"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise BundleSchemaError(
            f"{where} is not a DoSSR manifest ({type(error).__name__}: {error}); export the bundle again"
        ) from error
    if schema > SCHEMA:
        raise BundleSchemaError(
            f"{where} has schema {schema}, this version reads up to {SCHEMA}; run `pip install -U dossr-deploy`"
        )
    if schema < 1:
        raise BundleSchemaError(f"{where} has schema {schema}, expected 1 to {SCHEMA}; export the bundle again")
    try:
        graphs = {
            name: GraphEntry(
                spec=GraphSpec(
                    name=name,
                    inputs=_tensor_specs(entry["spec"]["inputs"]),
                    outputs=_tensor_specs(entry["spec"]["outputs"]),
                ),
                file=str(entry["file"]),
                lowered={str(k): str(v) for k, v in entry["lowered"].items()},
                verification=entry["verification"],
            )
            for name, entry in raw["graphs"].items()
        }
        manifest = Manifest(
            schema=schema,
            precision=Precision(raw["precision"]),
            graphs=graphs,
            axes={name: _record(AxisRange, axis) for name, axis in raw["axes"].items()},
            files={name: _record(FileRecord, record) for name, record in raw["files"].items()},
            schedule=_record(Schedule, raw["schedule"]),
            baked_timesteps=tuple(float(timestep) for timestep in raw.get("baked_timesteps", ())),
            prediction=str(raw["prediction"]),
            plan=_record(DefaultPlan, raw["plan"]),
            scale=int(raw["scale"]),
            scale_factor=float(raw["scale_factor"]),
            prompt=str(raw["prompt"]),
            checkpoint=dict(raw["checkpoint"]),
            tools=dict(raw["tools"]),
            verified=dict(raw.get("verified", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleSchemaError(
            f"{where} lacks or misuses a field ({type(error).__name__}: {error}); export the bundle again"
        ) from error
    _check_graphs(manifest, where)
    return manifest


_KINDS: dict[Any, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
_Record = TypeVar("_Record")


def _record(cls: type[_Record], raw: Any) -> _Record:
    """A dataclass of plain numbers and words from its JSON, every value of its type."""
    made = cls(**raw)
    for entry in dataclasses.fields(cls):  # type: ignore[arg-type]  # only dataclasses are passed
        value = getattr(made, entry.name)
        if type(value) not in _KINDS[entry.type] or value != value or value in (math.inf, -math.inf):
            raise ValueError(f"{entry.name} is {value!r}, expected {entry.type}")
    return made


def _tensor_specs(raw: Any) -> tuple[TensorSpec, ...]:
    for tensor in raw:
        for dim in tensor["shape"]:
            if type(dim) is not str and (type(dim) is not int or dim < 1):
                raise ValueError(f"a dimension is {dim!r}, expected a whole number or a word")
    return tuple(TensorSpec(name=str(s["name"]), shape=tuple(s["shape"]), dtype=str(s["dtype"])) for s in raw)


def _check_graphs(manifest: Manifest, where: str) -> None:
    needed = {"preprocess", "encode", "decode"}
    needed |= {"denoise"} if "denoise" in manifest.graphs else {"controlnet", "unet"}
    if missing := sorted(needed - manifest.graphs.keys()):
        raise BundleSchemaError(f"{where} has no graph {', '.join(missing)}; export the bundle again")
    if unknown := sorted(manifest.graphs.keys() - needed - {"condition"}):
        raise BundleSchemaError(f"{where} has a graph {', '.join(unknown)} that is not known; export the bundle again")
    for entry in manifest.graphs.values():
        for spec in (*entry.spec.inputs, *entry.spec.outputs):
            for dim in spec.shape:
                if isinstance(dim, str) and parse_dim(dim)[0] not in manifest.axes:
                    raise BundleSchemaError(f"{where} names no axis {dim!r}; export the bundle again")
        for path in (entry.file, *entry.lowered.values()):
            if path not in manifest.files:
                raise BundleSchemaError(f"{where} lists no hash for {path}; export the bundle again")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle: every file stands inside the folder and has the hash in the manifest."""

    folder: Path
    manifest: Manifest

    def path(self, relative: str) -> Path:
        """The path of one of the bundle's files."""
        return self.folder / relative


def open_bundle(folder: str | Path, *, check_hashes: bool = True) -> Bundle:
    """Reads and checks a bundle. Nothing in it is unpickled or executed.

    Raises:
        BundleNotFoundError: no folder, or no manifest in it.
        BundleSchemaError: see `parse_manifest`.
        BundlePathError: a file that leads outside the folder.
        BundleHashError: a file that is missing or differs from the manifest.
    """
    folder = Path(folder)
    manifest_path = folder / MANIFEST
    try:
        text = manifest_path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleSchemaError(f"{manifest_path} is not UTF-8 text; export the bundle again") from error
    except OSError as error:
        raise BundleNotFoundError(
            f"no bundle at {folder} ({MANIFEST}: {error.strerror}); make one with "
            "`python -m export.build --checkpoint model.ckpt --out DIR`"
        ) from error
    manifest = parse_manifest(text, str(manifest_path))
    for relative, record in manifest.files.items():
        _check_file(folder, relative, record, check_hashes)
    return Bundle(folder=folder, manifest=manifest)


def _check_file(folder: Path, relative: str, record: FileRecord, check_hash: bool) -> None:
    path = folder / relative
    if "\0" in relative or not path.resolve().is_relative_to(folder.resolve()):
        raise BundlePathError(f"{relative!r} in {folder / MANIFEST} leads outside the bundle; do not use this bundle")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BundleHashError(f"{path} is in the manifest but not there; copy or export the bundle again") from error
    if size != record.size:
        raise BundleHashError(f"{path} has {size} bytes, expected {record.size}; copy or export the bundle again")
    if check_hash and (digest := hash_cache.sha256(path)) != record.sha256:
        raise BundleHashError(
            f"{path} has sha256 {digest[:12]}..., expected {record.sha256[:12]}...; copy or export the bundle again"
        )
