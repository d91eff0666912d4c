"""The table of backends. In: a name. Out: a `Backend`."""

from __future__ import annotations

from engines.base import Backend
from engines.errors import EngineUnavailableError, SettingsError
from engines.ort import OnnxRuntime

BACKENDS: dict[str, type[Backend]] = {
    "onnxruntime": OnnxRuntime,
}
ENGINES = ("auto", "onnxruntime", "tensorrt")
"""What `--engine` takes."""


def choose_backend(engine: str) -> Backend:
    """The backend of that name; "auto" is the fastest that this version has.

    Raises:
        SettingsError: no engine of that name.
        EngineUnavailableError: the engine is not in this version.
    """
    if engine not in ENGINES:
        raise SettingsError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    name = next(iter(BACKENDS)) if engine == "auto" else engine
    if name not in BACKENDS:
        raise EngineUnavailableError(f"this version runs no {name} engines yet; use --engine onnxruntime")
    return BACKENDS[name]()
