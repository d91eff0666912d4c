"""What is asked of an export. In: options. Out: `BuildSettings`, and the key that tells two builds apart."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import engines
from engines.bundle import Manifest, Precision
from engines.files import sha256_file

if TYPE_CHECKING:  # `dossr verify` asks for the tools' versions where torch may not be installed
    from export.source import Source

DEVICES = ("cpu", "cuda")
"""What forms of the graphs can be written for: ONNX Runtime on either, and older TensorRT with the latter."""
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
    devices: tuple[str, ...] = DEVICES
    """Whose forms of the graphs to write, on the same weights."""
    static: tuple[int, int] | None = None
    """(H, W) in latent pixels, multiples of 8; None: dynamic shapes."""
    bake_steps: tuple[int, ...] = ()
    """Numbers of steps whose timesteps are baked; none: plans of any number of steps may be asked for."""
    prediction: str = Manifest.prediction
    t1: int | None = None
    """None: what the checkpoint's own tables say, else the released 500."""
    max_memory: int | None = None
    """Bytes that the process's own memory and the mapped weights may take; None: what is available, without a limit
    while it runs."""
    resume: bool = True
    """Whether finished graphs of an interrupted build with the same settings are used."""


def build_key(settings: BuildSettings, source: Source) -> dict[str, Any]:
    """All that decides what a graph's files hold: graphs of an earlier build are used only where it is the same."""
    files = {"checkpoint": settings.checkpoint, "config": settings.config, "context": settings.context}
    return {
        **{name: None if path is None else sha256_file(path) for name, path in files.items()},
        "precision": settings.precision.value,
        "devices": sorted(settings.devices),
        "split_controlnet": settings.split_controlnet,
        "static": None if settings.static is None else list(settings.static),
        "bake_steps": sorted(settings.bake_steps),
        "prediction": settings.prediction,
        "schedule": dataclasses.asdict(source.schedule),
        "scale_factor": source.scale_factor,
        "tools": tools(),
        "code": _code(),
    }


def tools() -> dict[str, str]:
    """Versions of Python and of each library that takes part."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions


def _code() -> str:
    """sha256 of this package's and of `engines`' sources, by their names."""
    digest = hashlib.sha256()
    for package in (Path(__file__).parent, Path(engines.__file__).parent):
        for path in sorted(package.rglob("*.py")):
            digest.update(path.relative_to(package.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
