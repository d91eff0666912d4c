"""The table of backends. In: a name. Out: a `Backend`."""

from __future__ import annotations

from engines.base import Backend, EngineSettings
from engines.bundle import Bundle
from engines.errors import SettingsError
from engines.ort import OnnxRuntime
from engines.trt import TensorRT

BACKENDS: dict[str, type[Backend]] = {
    "tensorrt": TensorRT,
    "onnxruntime": OnnxRuntime,
}
"""The fastest first: "auto" takes the first that is usable."""
ENGINES = ("auto", *BACKENDS)
"""What `--engine` takes."""


def check_engine(engine: str) -> None:
    """Whether there is an engine of that name.

    Raises:
        SettingsError: no.
    """
    if engine not in ENGINES:
        raise SettingsError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")


def backend_named(name: str) -> Backend:
    """The backend of that name, which is a key of `BACKENDS`."""
    return BACKENDS[name]()


def choose_backend(engine: str, bundle: Bundle, settings: EngineSettings) -> Backend:
    """The backend of that name; "auto": the fastest that is usable with that bundle here.

    Raises:
        SettingsError: no engine of that name.
    """
    check_engine(engine)
    if engine != "auto":
        return backend_named(engine)
    backends = [backend_named(name) for name in BACKENDS]
    return next((backend for backend in backends if backend.usable(bundle, settings)), backends[-1])
