"""The ONNX Runtime backend. In: a bundle's ONNX file. Out: a session that runs on raw pointers.

The provider follows the device; CUDA, OpenVINO, CoreML, MIGraphX and DirectML work where the installed ONNX Runtime
has them. Memory stays on the host here: for other devices ONNX Runtime copies.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from engines.base import Buffer, Call, EngineSettings, Footprint, check_buffers
from engines.bundle import Bundle, Precision
from engines.errors import BundleHashError, EngineError, EngineUnavailableError, SettingsError
from engines.graphs import DECODE, GraphSpec
from engines.identity import IDENTITY
from engines.memory import trim_heap
from engines.onnx_paths import check_external_paths

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "dml": "DmlExecutionProvider",
}
"""Device name to execution provider."""

_ONNX_TYPES = {"float32": 1, "uint8": 2, "int64": 7, "float16": 10, "float64": 11}
_LOG_FATAL_ONLY = 4
"""Errors come back as exceptions, with the same words."""
_AS_REQUESTED = 1
"""ONNX Runtime's kSameAsRequested: the arena grows by what is asked for, not to the next power of two."""
_OPEN = {Precision.FP32: 1.05, Precision.FP16: 2.4}
"""Memory of an open session on the CPU for each byte of weights: fp16 ones are widened. Measured at full size."""
_OPENING = {Precision.FP32: 1.05, Precision.FP16: 3.5}
_RUNNING, _DECODING = 128 << 10, 384 << 10
"""Bytes of intermediate results for each latent pixel, of most graphs and of the decoder. Measured at full size."""


class OnnxRuntime:
    """Backend on the `onnxruntime` package, whichever build of it is installed."""

    name = "onnxruntime"

    def open(self, bundle: Bundle, graph: str, settings: EngineSettings) -> OnnxRuntimeRunner:
        """See `engines.base.Backend.open`."""
        ort = import_onnxruntime()
        provider, options = choose_provider(settings, ort.get_available_providers())
        entry = bundle.manifest.graphs[graph]
        device = next(name for name, known in PROVIDERS.items() if known == provider)
        path = bundle.path(entry.lowered.get(f"{self.name}-{device}", entry.file))
        for file in check_external_paths(path, bundle.folder):
            if file not in bundle.manifest.files:
                raise BundleHashError(f"{path} keeps weights in {file}, which the manifest does not list; export again")
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = settings.threads or usable_cores()
        session_options.log_severity_level = _LOG_FATAL_ONLY
        if provider == PROVIDERS["cpu"]:
            _share_arena(session_options)
        providers = [(provider, options)]
        if provider != PROVIDERS["cpu"]:
            providers.append((PROVIDERS["cpu"], {}))  # for operators that the provider does not have
        try:
            session = ort.InferenceSession(str(path), session_options, providers=providers)
        except Exception as error:  # its exception types share no base but Exception
            raise EngineError(f"ONNX Runtime {ort.__version__} cannot open {path}: {error}") from error
        if settings.device != "auto" and session.get_providers()[0] != provider:
            raise EngineUnavailableError(
                f"device {settings.device!r} was asked for, but {provider} did not load; install its libraries, or "
                "use --device cpu"
            )
        return OnnxRuntimeRunner(session, entry.spec, f"onnxruntime {ort.__version__}, {session.get_providers()[0]}")

    def prepare(self, settings: EngineSettings) -> str:
        """See `engines.base.Backend.prepare`."""
        ort = import_onnxruntime()
        provider, _ = choose_provider(settings, ort.get_available_providers())
        return f"onnxruntime {ort.__version__}, {provider}"

    def footprint(self, bundle: Bundle, graph: str, _settings: EngineSettings) -> Footprint:
        """See `engines.base.Backend.footprint`. Measured for the full-size model on the CPU provider: narrower networks
        take less, and other devices keep their weights elsewhere.
        """
        manifest = bundle.manifest
        folder = manifest.graphs[graph].file.rpartition("/")[0] + "/"
        weights = sum(
            record.size
            for name, record in manifest.files.items()
            if name.startswith(folder) and not name.endswith(".onnx")
        )
        opening, kept = (int(factors[manifest.precision] * weights) for factors in (_OPENING, _OPEN))
        return Footprint(opening=opening, open=kept, running=_DECODING if graph == DECODE.name else _RUNNING)

    def trim(self) -> None:
        """See `engines.base.Backend.trim`."""
        trim_arena()
        trim_heap()


class OnnxRuntimeRunner:
    """One graph in one session. Sessions may run from several threads; a `Call` may not."""

    def __init__(self, session: Any, spec: GraphSpec, description: str) -> None:
        self._session = session
        self._spec = spec
        self.description = description

    def bind(self, tensors: Mapping[str, Buffer]) -> Call:
        """See `engines.base.Runner.bind`."""
        if self._session is None:
            raise EngineError(f"graph {self._spec.name} is closed; open the Upscaler again")
        check_buffers(self._spec, tensors)
        if elsewhere := [f"{name} on {tensor.device}" for name, tensor in tensors.items() if tensor.device != "cpu"]:
            raise EngineError(f"this backend binds host memory, given {', '.join(elsewhere)}; copy it to the host")
        binding = self._session.io_binding()
        for specs, bind in ((self._spec.inputs, binding.bind_input), (self._spec.outputs, binding.bind_output)):
            for spec in specs:
                buffer = tensors[spec.name]
                bind(spec.name, "cpu", 0, _ONNX_TYPES[spec.dtype], list(buffer.shape), buffer.ptr)
        return _OnnxRuntimeCall(self._session, binding, tensors, self._spec.name)

    def close(self) -> None:
        """Frees the session once no `Call` holds it."""
        self._session = None


class _OnnxRuntimeCall:
    def __init__(self, session: Any, binding: Any, tensors: Mapping[str, Buffer], graph: str) -> None:
        self._session = session
        self._binding = binding
        self._tensors = dict(tensors)  # ONNX Runtime holds bare addresses: the memory must outlive the binding
        self._graph = graph

    def run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # its exception types share no base but Exception
            raise EngineError(
                f"ONNX Runtime failed in graph {self._graph}: {error}; if memory ran out, take a smaller image"
            ) from error


def _share_arena(options: Any) -> None:
    """One arena for the intermediate results of every session of the process: graphs run one after the other, so that
    it holds the largest, not the sum. Weights stay out of it and are given back when a session is closed. Memory
    patterns are off: planned for the largest tensors at once, they take twice as much and save no time.
    """
    _register_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.enable_mem_pattern = False


@cache
def _register_arena() -> None:
    """Once a process: to register again would put a new arena in the old one's place, beside it."""
    ort = import_onnxruntime()
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(where, ort.OrtArenaCfg({"arena_extend_strategy": _AS_REQUESTED}))


def trim_arena() -> None:
    """Gives back what the shared arena holds and no session uses: ONNX Runtime does so at the end of a run only.

    Does nothing where no session of this process has opened the arena, or the program around us has put an allocator
    of its own in its place, which cannot be trimmed.
    """
    if not _register_arena.cache_info().currsize:
        return
    session, run_options = _empty_session()
    binding = session.io_binding()
    numbers = (ctypes.c_float * 2)()
    first = ctypes.addressof(numbers)
    binding.bind_input("x", "cpu", 0, _ONNX_TYPES["float32"], [1], first)
    binding.bind_output("y", "cpu", 0, _ONNX_TYPES["float32"], [1], first + ctypes.sizeof(ctypes.c_float))
    with contextlib.suppress(Exception):  # ONNX Runtime's exception types share no base but Exception
        session.run_with_iobinding(binding, run_options)


@cache
def _empty_session() -> tuple[Any, Any]:
    ort = import_onnxruntime()
    session_options, run_options = ort.SessionOptions(), ort.RunOptions()
    session_options.intra_op_num_threads = 1
    _share_arena(session_options)
    run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return ort.InferenceSession(IDENTITY, session_options, providers=[PROVIDERS["cpu"]]), run_options


def usable_cores() -> int:
    """Cores that this process may run on; ONNX Runtime's own default counts the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def import_onnxruntime() -> Any:
    """The installed `onnxruntime` module, with telemetry off.

    Raises:
        EngineUnavailableError: it is not installed, or does not load.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailableError(
            f"ONNX Runtime does not import ({error}); run `pip install 'dossr-deploy[cpu]'`, or [gpu] for CUDA"
        ) from error
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def choose_provider(settings: EngineSettings, available: list[str]) -> tuple[str, dict[str, str]]:
    """The execution provider for a device, and its options.

    Raises:
        EngineUnavailableError: the device is unknown, or its provider is not in the installed ONNX Runtime.
        SettingsError: options for a provider that takes none.
    """
    device, _, index = settings.device.partition(":")
    if device == "auto":
        device = "cuda" if PROVIDERS["cuda"] in available else "cpu"
    if device not in PROVIDERS or (index and (not index.isdigit() or device == "cpu")):
        raise EngineUnavailableError(f"device must be auto, {', '.join(PROVIDERS)} or cuda:N, not {settings.device!r}")
    provider = PROVIDERS[device]
    if provider not in available:
        raise EngineUnavailableError(
            f"device {settings.device!r} needs {provider}, the installed ONNX Runtime has {', '.join(available)}; "
            f"install the build that has it, or use --device cpu"
        )
    options = dict(settings.provider_options)
    if options and provider == PROVIDERS["cpu"]:
        raise SettingsError(f"the CPU provider takes no options, given {', '.join(options)}; leave them out")
    if index:
        options.setdefault("device_id", index)
    return provider, options
