"""The ONNX Runtime backend. In: a bundle's ONNX file. Out: a session that runs on raw pointers.

The provider follows the device; CUDA, OpenVINO, CoreML, MIGraphX and DirectML work where the installed ONNX Runtime
has them. With CUDA, buffers may be on the GPU (`engines.ort_cuda`); for every other device ONNX Runtime copies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engines import ort_cuda
from engines.base import DEVICE_SETUP, Buffer, Call, EngineSettings, Footprint, check_buffers
from engines.bundle import Bundle, Precision
from engines.errors import BundleHashError, EngineError, EngineUnavailableError, SettingsError
from engines.graphs import DECODE, GraphSpec
from engines.memory import trim_heap
from engines.onnx_paths import check_external_paths
from engines.ort_arena import share_arena, trim_arena
from engines.profiles import Profile, profile_of

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": ort_cuda.PROVIDER,
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "dml": "DmlExecutionProvider",
}
"""Device name to execution provider."""

_ONNX_TYPES = {"float32": 1, "uint8": 2, "int64": 7, "float16": 10, "float64": 11}
_LOG_FATAL_ONLY = 4
"""Errors come back as exceptions, with the same words."""
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
        provider, options = choose_provider(settings, ort)
        entry = bundle.manifest.graphs[graph]
        device = next(name for name, known in PROVIDERS.items() if known == provider)
        form = f"{self.name}-{device}"
        path = bundle.path(entry.lowered.get(form, entry.file))
        for file in check_external_paths(path, bundle.folder):
            if file not in bundle.manifest.files:
                raise BundleHashError(f"{path} keeps weights in {file}, which the manifest does not list; export again")
        opened = partial(_open_session, ort, str(path), provider)
        description = f"onnxruntime {ort.__version__}, {provider}"
        if device != "cuda":
            threads = settings.threads or usable_cores()
            return OnnxRuntimeRunner(opened(options, threads), entry.spec, description, copies=device != "cpu")
        options = ort_cuda.provider_options(settings, lowered=form in entry.lowered)
        with DEVICE_SETUP:
            session, graphs = ort_cuda.open_session(partial(opened, threads=settings.threads or 1), options, graph)
        cuda = ort_cuda.CudaSession(ort, session, graphs=graphs, wait=settings.stream is None)
        place = f"cuda:{options['device_id']}"
        return OnnxRuntimeRunner(session, entry.spec, f"{description} on {place}", copies=True, cuda=cuda, place=place)

    def prepare(self, settings: EngineSettings) -> str:
        """See `engines.base.Backend.prepare`."""
        ort = import_onnxruntime()
        provider, _ = choose_provider(settings, ort)
        return f"onnxruntime {ort.__version__}, {provider}"

    def place(self, settings: EngineSettings) -> str:
        """See `engines.base.Backend.place`."""
        provider, options = choose_provider(settings, import_onnxruntime())
        return f"cuda:{options['device_id']}" if provider == PROVIDERS["cuda"] else "cpu"

    def profiles(self, bundle: Bundle, _settings: EngineSettings) -> tuple[Profile, ...]:
        """See `engines.base.Backend.profiles`."""
        return (profile_of(bundle.manifest.axes),)

    def usable(self, _bundle: Bundle, _settings: EngineSettings) -> bool:
        """See `engines.base.Backend.usable`."""
        return True

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
        trim_arena(import_onnxruntime())
        trim_heap()


class OnnxRuntimeRunner:
    """One graph in one session. Sessions may run from several threads; a `Call` may not.

    Args:
        session: opened.
        spec: of its graph.
        description: see `engines.base.Runner`.
        copies: whether ONNX Runtime copies host memory to the device.
        cuda: the same session on a GPU.
        place: where device buffers may be.
    """

    def __init__(
        self,
        session: Any,
        spec: GraphSpec,
        description: str,
        *,
        copies: bool,
        cuda: ort_cuda.CudaSession | None = None,
        place: str = "cpu",
    ) -> None:
        self._session, self._spec, self._cuda, self._place, self._copies = session, spec, cuda, place, copies
        self.description = description

    def bind(self, tensors: Mapping[str, Buffer]) -> Call:
        """See `engines.base.Runner.bind`."""
        if self._session is None:
            raise EngineError(f"graph {self._spec.name} is closed; open the Upscaler again")
        check_buffers(self._spec, tensors)
        places = {tensor.device for tensor in tensors.values()}
        if len(places) > 1 or not places <= {"cpu", self._place}:
            given = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
            where = "host memory" if self._cuda is None else f"host memory or memory of {self._place}"
            raise EngineError(f"this backend binds {where}, given {given}; copy it there")
        tensors = dict(tensors)
        if self._cuda is not None and places != {"cpu"}:
            run = self._cuda.repeated(self._bound(tensors, self._place))
        elif self._cuda is not None:
            run = self._cuda.copied(partial(self._bound, tensors, "cpu"))
        elif self._copies:
            run = partial(_bind_and_run, partial(self._bound, tensors, "cpu"), self._session.run_with_iobinding)
        else:
            run = partial(self._session.run_with_iobinding, self._bound(tensors, "cpu"))
        return _OnnxRuntimeCall(run, tensors, self._spec.name)

    def _bound(self, tensors: Mapping[str, Buffer], place: str) -> Any:
        binding = self._session.io_binding()
        device, _, index = place.partition(":")
        for specs, bind in ((self._spec.inputs, binding.bind_input), (self._spec.outputs, binding.bind_output)):
            for spec in specs:
                buffer = tensors[spec.name]
                bind(spec.name, device, int(index or 0), _ONNX_TYPES[spec.dtype], list(buffer.shape), buffer.ptr)
        return binding

    def close(self) -> None:
        """Frees the session once no `Call` holds it."""
        self._session = None
        if self._cuda is not None:
            self._cuda.close()


class _OnnxRuntimeCall:
    recordable = False
    """ONNX Runtime records graphs of its own, which cannot be part of another."""
    version = 0

    def __init__(self, run: Callable[[], None], tensors: Mapping[str, Buffer], graph: str) -> None:
        self._run = run
        self._tensors = tensors  # ONNX Runtime holds bare addresses: the memory must outlive the binding
        self._graph = graph

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:  # its exception types share no base but Exception
            raise EngineError(
                f"ONNX Runtime failed in graph {self._graph}: {one_line(error)}; if memory ran out, take a smaller "
                "image"
            ) from error


def _bind_and_run(bound: Callable[[], Any], execute: Callable[[Any], None]) -> None:
    """Inputs go to the device when they are bound, not when the session runs."""
    execute(bound())


def _open_session(ort: Any, path: str, provider: str, options: Mapping[str, str], threads: int) -> Any:
    """A session of that provider, with the CPU's for operators that it does not have.

    Raises:
        EngineError: ONNX Runtime refuses the graph or an option.
        EngineUnavailableError: the provider did not load.
    """
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.log_severity_level = _LOG_FATAL_ONLY
    session_options.enable_mem_pattern = False  # planned for the largest tensors at once, they take twice as much
    if provider == PROVIDERS["cpu"]:
        share_arena(ort, session_options)
    providers = [(provider, dict(options)), (PROVIDERS["cpu"], {})][: 1 + (provider != PROVIDERS["cpu"])]
    try:
        # Without enable_fallback=0 a refused option would print to stdout and open the session on the CPU.
        session = ort.InferenceSession(path, session_options, providers=providers, enable_fallback=0)
    except Exception as error:  # its exception types share no base but Exception
        raise EngineError(f"ONNX Runtime {ort.__version__} cannot open {path}: {one_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise EngineUnavailableError(
            f"{provider} did not load in ONNX Runtime {ort.__version__}; install its libraries, or use --device cpu"
        )
    return session


def one_line(error: Exception) -> str:
    """ONNX Runtime's words, which may be several lines."""
    return " ".join(str(error).split())


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


def choose_provider(settings: EngineSettings, ort: Any) -> tuple[str, dict[str, str]]:
    """The execution provider for a device, and its options: the user's, and `device_id` where it is CUDA's. "auto" is a
    GPU where the provider, the driver and the libraries are there.

    Raises:
        EngineUnavailableError: the device is unknown or not there, or its provider is not in the installed ONNX Runtime
            or does not load.
        SettingsError: options for a provider that takes none.
    """
    available = ort.get_available_providers()
    device, _, index = settings.device.partition(":")
    if device == "auto":
        device = "cuda" if PROVIDERS["cuda"] in available and ort_cuda.usable(ort) else "cpu"
    if device not in PROVIDERS or (index and (not index.isdigit() or device == "cpu")):
        raise EngineUnavailableError(f"device must be auto, {', '.join(PROVIDERS)} or cuda:N, not {settings.device!r}")
    provider = PROVIDERS[device]
    if provider not in available:
        install = f"run `{ort_cuda.INSTALL}`" if device == "cuda" else "install the build that has it"
        raise EngineUnavailableError(
            f"device {settings.device!r} needs {provider}, the installed ONNX Runtime has {', '.join(available)}; "
            f"{install}, or use --device cpu"
        )
    options = dict(settings.provider_options)
    if options and provider == PROVIDERS["cpu"]:
        raise SettingsError(f"the CPU provider takes no options, given {', '.join(options)}; leave them out")
    if device == "cuda":
        options["device_id"] = str(ort_cuda.device_index(settings))
        ort_cuda.load_libraries(ort)
    elif index:
        options.setdefault("device_id", index)
    return provider, options
