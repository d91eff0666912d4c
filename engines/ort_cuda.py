"""What is CUDA's alone in the ONNX Runtime backend. In: settings and a session. Out: provider options, and calls whose
work is recorded as a CUDA graph.

Tables of the options with their reasons: docs/cuda.md. What is said here of ONNX Runtime was seen with 1.31.1.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import logging
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from engines.base import DEVICE_SETUP, EngineSettings
from engines.errors import EngineError, EngineUnavailableError
from engines.nvidia import driver, ignore_captures

PROVIDER = "CUDAExecutionProvider"
PACKAGE = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
"""The extras are CUDA 13's libraries and cuDNN 9 as packages, for machines that have them nowhere else."""
INSTALL = f"pip uninstall -y onnxruntime; {PACKAGE}"
"""The one that runs on CPUs alone writes into the same folder."""
REGULAR_RUNS = 5
"""Runs of a call before the one that records its graph. Recording costs two more runs, which one picture of a size does
not win back."""
MAX_GRAPHS = 64
"""Recorded graphs of a session, which frees none before it is closed; calls beyond it run without."""
_ERRORS = 3
"""ONNX Runtime's severity ERROR."""
_NO_GRAPH = -1
"""ONNX Runtime's kCudaGraphAnnotationSkip."""
_log = logging.getLogger("dossr")


def device_index(settings: EngineSettings) -> int:
    """Which GPU: the provider option `device_id`, else N of "cuda:N", else 0.

    Raises:
        EngineUnavailableError: no driver, or no such GPU.
    """
    index = dict(settings.provider_options).get("device_id") or settings.device.partition(":")[2] or "0"
    gpus = driver().gpus
    if not index.isdigit() or int(index) not in (gpu.index for gpu in gpus):
        there = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in gpus)
        raise EngineUnavailableError(f"there is no GPU {index} for device {settings.device!r}; use one of {there}")
    return int(index)


def usable(ort: Any) -> bool:
    """Whether "auto" may choose CUDA: there is a GPU, and the provider's libraries load. A GPU that goes unused for
    want of a library is said in the log.
    """
    try:
        if not driver().gpus:
            return False
    except EngineUnavailableError:
        return False
    try:
        load_libraries(ort)
    except EngineUnavailableError as error:
        _log.warning("the GPU is not used: %s", error)
        return False
    return True


def provider_options(settings: EngineSettings, *, lowered: bool) -> dict[str, str]:
    """Options of the provider for a graph in its CUDA form (`lowered`) or the canonical one; the user's own win."""
    options = {
        "device_id": str(device_index(settings)),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "do_copy_in_default_stream": "1",
        "enable_cuda_graph": "1",
        "prefer_nhwc": str(int(lowered)),
        "use_tf32": "0",
    }
    if settings.stream is not None:
        options["user_compute_stream"] = str(settings.stream)
    return options | dict(settings.provider_options)


def load_libraries(ort: Any) -> None:
    """Loads CUDA's libraries from Python packages, where they are there, for the provider to find.

    Raises:
        EngineUnavailableError: one that the provider needs is missing, with its name.
    """
    if (reason := _load_libraries(ort)) is not None:
        raise EngineUnavailableError(
            f"{PROVIDER} of ONNX Runtime {ort.__version__} did not load: {reason}; run `{INSTALL}`, or use --device cpu"
        )


@cache
def _load_libraries(ort: Any) -> str | None:
    ort.set_default_logger_severity(_ERRORS)  # 1.31 warns at every session that there is no CUDA plugin either
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it did not find
            preload(directory="")
    if sys.platform != "linux":
        return None
    folder = Path(ort.__file__).parent / "capi"
    try:
        # In this order, and the first for all to see, as ONNX Runtime does. It loads cuDNN at the first convolution.
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
        ctypes.CDLL("libcudnn.so.9")
    except OSError as error:
        return str(error)
    return None


def open_session(
    opened: Callable[[Mapping[str, str]], Any], options: Mapping[str, str], graph: str
) -> tuple[Any, bool]:
    """A session, and whether its calls may be recorded: they may not where some node is on the CPU.

    Args:
        opened: opens the session with options of the provider.
        options: see `provider_options`.
        graph: its name, for the log.

    Raises:
        EngineError: see `opened`.
    """
    try:
        return opened(options), options["enable_cuda_graph"] == "1"
    except EngineError as error:
        if "cannot use the graph capture" not in str(error):
            raise
        _log.warning("graph %s runs without a CUDA graph: %s", graph, error.__cause__)
    return opened({**options, "enable_cuda_graph": "0"}), False


class CudaSession:
    """A session whose calls on device memory are recorded as CUDA graphs once they have proved to come again.

    ONNX Runtime keeps a recorded graph, and its cuBLAS and cuDNN handles, for the thread that made them; so all runs of
    a session are one thread's, whichever thread asks.
    """

    def __init__(self, ort: Any, session: Any, *, graphs: bool, wait: bool) -> None:
        self._ort, self._session, self._graphs, self._wait = ort, session, graphs, wait
        self._ids = itertools.count(1)
        self._thread = ThreadPoolExecutor(1, "dossr-onnxruntime", ignore_captures)

    def run(self, binding: Any, *, graph: int = _NO_GRAPH, wait: bool = True) -> None:
        """Runs in the session's thread."""
        options = self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        if not wait:
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._thread.submit(self._session.run_with_iobinding, binding, options).result()

    def repeated(self, binding: Any) -> Callable[[], None]:
        """Runs of a binding all of whose memory is on the device: at first as they are, then recorded, then replayed.

        With a stream of the user's, each returns when it has been put there.
        """
        number = next(self._ids)
        if self._graphs and number == MAX_GRAPHS + 1:
            _log.info("%d calls of a session have a CUDA graph; further ones run without", MAX_GRAPHS)
        recorded = number if self._graphs and number <= MAX_GRAPHS else _NO_GRAPH
        runs = itertools.count()

        def run() -> None:
            done = next(runs)
            sets_up = done in (0, REGULAR_RUNS)  # takes memory, or records
            with DEVICE_SETUP if sets_up else contextlib.nullcontext():
                # Runs that set up wait, so that what ONNX Runtime takes for one run is given back at its end.
                self.run(binding, graph=_NO_GRAPH if done < REGULAR_RUNS else recorded, wait=self._wait or sets_up)

        return run

    def copied(self, bound: Callable[[], Any]) -> Callable[[], None]:
        """Runs on host memory, bound anew each time, because ONNX Runtime copies inputs when they are bound."""

        def run() -> None:
            with DEVICE_SETUP:  # the copies take memory on the device
                self.run(bound())

        return run

    def close(self) -> None:
        """Ends the thread, and frees the session."""
        self._thread.shutdown()
        with DEVICE_SETUP:
            self._session = None
