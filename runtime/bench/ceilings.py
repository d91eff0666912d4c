"""What the machine can do at most. In: a device. Out: operations and bytes a second, measured now.

Arithmetic: the faster of a large matrix product and a large convolution, on ONNX Runtime and the device that is benched
(`runtime.bench.probe_graphs`). Memory: a large copy, bytes read and written both counted; on a CPU by memmove in the
threads that an engine may use, elsewhere by ONNX Runtime on the device.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from engines.base import EngineSettings
from engines.errors import EngineError
from engines.ort import PROVIDERS, choose_provider, import_onnxruntime, usable_cores
from runtime.bench import probe_graphs
from runtime.kernels import Tensor

_LEAST_SECONDS, _LEAST_RUNS, _MOST_RUNS = 0.5, 3, 50
_LOG_FATAL_ONLY = 4


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """The best that was seen."""

    product: float
    """Floating-point operations a second of the matrix product."""
    convolution: float
    copy: float
    """Bytes read and written a second."""
    precision: str
    """Of the arithmetic: fp32 or fp16."""
    how: str
    """Sizes and means, for people."""

    @property
    def flops(self) -> float:
        """Operations a second of the faster one."""
        return max(self.product, self.convolution)


def best(a: Ceilings, b: Ceilings) -> Ceilings:
    """The better of each: a ceiling that was taken while the machine did something else is too low."""
    return replace(
        a,
        product=max(a.product, b.product),
        convolution=max(a.convolution, b.convolution),
        copy=max(a.copy, b.copy),
    )


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    product: int
    channels: int
    side: int
    copy: int
    """Bytes."""


_CPU = _Sizes(product=2048, channels=256, side=128, copy=256 << 20)
_GPU = _Sizes(product=8192, channels=512, side=256, copy=1 << 30)


def measure_ceilings(settings: EngineSettings, *, half: bool, sizes: _Sizes | None = None) -> Ceilings:
    """Takes a second or two.

    Args:
        settings: the device and threads that are benched.
        half: whether the bundle's arithmetic is fp16; a CPU computes in fp32 all the same.
        sizes: smaller ones for tests.

    Raises:
        EngineUnavailableError: ONNX Runtime or its provider is not on this machine.
        EngineError: it failed.
    """
    ort = import_onnxruntime()
    provider, options = choose_provider(settings, ort)
    cpu = provider == PROVIDERS["cpu"]
    sizes = sizes or (_CPU if cpu else _GPU)
    half = half and not cpu
    dtype = probe_graphs.HALF if half else probe_graphs.FLOAT
    probe = _Probe(ort, provider, options, settings.threads or usable_cores(), dtype)
    n, c, side = sizes.product, sizes.channels, sizes.side
    try:
        square = probe.noise((n, n))
        product = 2 * n**3 / probe.seconds(probe_graphs.product(n, dtype), a=square, b=square)
        image, filters = probe.noise((1, c, side, side)), probe.noise((c, c, 3, 3))
        model = probe_graphs.convolution(c, side, dtype)
        convolution = 2 * 9 * c**2 * side**2 / probe.seconds(model, a=image, b=filters)
        if cpu:
            copy = _copy_rate(sizes.copy, probe.threads)
        else:
            count = sizes.copy // (2 if half else 4)
            copy = 2 * sizes.copy / probe.seconds(probe_graphs.negation(count, dtype), a=probe.noise((count,)))
    except Exception as error:  # ONNX Runtime's exception types share no base but Exception
        raise EngineError(f"ONNX Runtime failed while the machine's ceilings were measured: {error}") from error
    how = f"{n}x{n} matrices, 3x3 convolution of {c} channels on {side}x{side}, copy of {sizes.copy >> 20} MiB"
    return Ceilings(
        product=product,
        convolution=convolution,
        copy=copy,
        precision="fp16" if half else "fp32",
        how=f"{how}, {provider}",
    )


class _Probe:
    """Runs probe graphs on one device, their tensors already there."""

    def __init__(self, ort: Any, provider: str, options: dict[str, str], threads: int, dtype: int) -> None:
        self._ort, self._providers, self._dtype, self.threads = ort, [(provider, options)], dtype, threads
        cuda = provider == PROVIDERS["cuda"]
        self._place = ("cuda", int(options.get("device_id", 0))) if cuda else ("cpu", 0)

    def _session(self, model: bytes) -> Any:
        session_options = self._ort.SessionOptions()
        session_options.intra_op_num_threads = self.threads
        session_options.log_severity_level = _LOG_FATAL_ONLY
        return self._ort.InferenceSession(model, session_options, providers=self._providers)

    def noise(self, shape: tuple[int, ...]) -> Any:
        """Normals on the device."""
        session = self._session(probe_graphs.noise(shape, self._dtype))
        binding = session.io_binding()
        binding.bind_output("y", *self._place)
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0]

    def seconds(self, model: bytes, **inputs: Any) -> float:
        """Of the fastest run."""
        session = self._session(model)
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("y", *self._place)
        session.run_with_iobinding(binding)
        output = binding.get_outputs()[0]
        binding.bind_ortvalue_output("y", output)  # from now on the same memory

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return _fastest(run)


def _copy_rate(count: int, threads: int) -> float:
    """Bytes read and written a second by memmove, the bytes split among threads."""
    source, target = Tensor((count,), "uint8"), Tensor((count,), "uint8")
    part = -(-count // threads)
    pieces = [(start, min(part, count - start)) for start in range(0, count, part)]

    def run() -> None:
        workers = [
            threading.Thread(target=ctypes.memmove, args=(target.ptr + start, source.ptr + start, length))
            for start, length in pieces
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return 2 * count / _fastest(run)


def _fastest(run: Callable[[], None]) -> float:
    run()
    times: list[float] = []
    while len(times) < _LEAST_RUNS or (sum(times) < _LEAST_SECONDS and len(times) < _MOST_RUNS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)
