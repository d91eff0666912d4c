"""Probes from inside: what runs in a process of its own. In: arguments. Out: facts, as JSON lines on what was stdout.

A fact is told as soon as it is known: what comes after may crash. Libraries' own words go to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

Tell = Callable[[dict[str, Any]], None]


def driver(tell: Tell) -> None:
    """The NVIDIA driver."""
    from engines import nvidia

    tell(asdict(nvidia.driver()))


def native(tell: Tell) -> None:
    """The compiled module, and for which GPUs it has code."""
    from engines.errors import EngineUnavailableError

    importlib.import_module("runtime.kernels")  # the runtime's own error where the module does not import
    from runtime import _native

    tell({"version": _native.__version__, "file": _native.__file__})
    cuda = getattr(_native, "cuda", None)
    if cuda is None:
        return
    tell({"architectures": list(cuda.architectures), "cuda": list(cuda.runtime_version)})
    from engines import nvidia

    try:
        gpus = nvidia.driver().gpus
    except EngineUnavailableError:
        return  # the driver's own probe says so
    tell({"runs_on": {str(gpu.index): bool(cuda.runs_on(gpu.index)) for gpu in gpus}})


def onnxruntime(tell: Tell) -> None:
    """The package, and the providers that are compiled in."""
    from engines.ort import import_onnxruntime

    ort = import_onnxruntime()
    tell({"version": ort.__version__, "file": ort.__file__, "providers": ort.get_available_providers()})
    tell({"cuda": getattr(ort, "cuda_version", None) or None})


def provider(tell: Tell, device: str) -> None:
    """Whether ONNX Runtime's provider for a device opens a graph, as the runtime opens it."""
    from engines.backends import backend_named

    _open(tell, backend_named("onnxruntime"), device)


def tensorrt(tell: Tell, module: str) -> None:
    """The package alone: without a driver its Runtime crashes the process that uses it."""
    found = importlib.import_module(module)
    tell({"version": found.__version__, "file": found.__file__, "builder": hasattr(found, "Builder")})
    tell({"libraries": _libraries("nvinfer")})


def run(tell: Tell, engine: str, device: str, bundle: str, check: str) -> None:
    """What the runtime does before its first picture, in its order, with a graph of one node in the bundle's place."""
    from engines.backends import choose_backend
    from engines.base import EngineSettings
    from engines.bundle import open_bundle

    importlib.import_module("runtime.kernels")
    settings = EngineSettings(device=device)
    opened = open_bundle(bundle, check_hashes=bool(check))
    backend = choose_backend(engine, opened, settings)
    tell({"engine": backend.name})
    tell({"prepared": backend.prepare(settings)})
    tell({"profiles": [str(profile) for profile in backend.profiles(opened, settings)]})
    if backend.name == "onnxruntime":  # the others' graphs are compiled from the bundle's own
        _open(tell, backend, device)


def _open(tell: Tell, backend: Any, device: str) -> None:
    from engines.base import EngineSettings
    from engines.identity import IDENTITY_GRAPH, identity_bundle

    with tempfile.TemporaryDirectory(prefix="dossr-doctor-") as folder:
        bundle = identity_bundle(Path(folder))
        runner = backend.open(bundle, IDENTITY_GRAPH.name, EngineSettings(device=device))
        tell({"opened": runner.description})
        runner.close()


def _libraries(part: str) -> list[str]:
    """Files of this process's shared libraries that have the word in their name; none where the system does not say."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    files = {fields[5] for fields in (line.split(maxsplit=5) for line in maps.splitlines()) if len(fields) > 5}
    return sorted(file for file in files if part in Path(file).name and ".so" in Path(file).name)


PROBES: dict[str, Callable[..., None]] = {
    "driver": driver,
    "native": native,
    "onnxruntime": onnxruntime,
    "provider": provider,
    "tensorrt": tensorrt,
    "run": run,
}


def main(arguments: Sequence[str]) -> None:
    """Runs one probe; an exception is its last fact."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries write there, too

    def tell(facts: dict[str, Any]) -> None:
        print(json.dumps(facts), file=channel, flush=True)

    try:
        PROBES[arguments[0]](tell, *arguments[1:])
    except Exception as error:
        tell({"error": type(error).__name__, "message": str(error)})
        sys.exit(1)
