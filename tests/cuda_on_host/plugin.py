"""A pytest plugin (`-p tests.cuda_on_host.plugin`): the runtime works as on a GPU, on CUDA's stand-in.

`runtime._native` is the module whose kernels run on the CPU, engines say that their buffers belong on "cuda:N", and
ONNX Runtime's CPU sessions, the one thing that is not as on a GPU, take that memory for the host's, which it is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import runtime
from engines import ort
from engines.base import Call, EngineSettings, Runner
from engines.bundle import Bundle
from tests.cuda_on_host.build import Machine, load, on_host_path

native = load(on_host_path())
sys.modules["runtime._native"] = native
runtime._native = native
machine = Machine(native.__file__)


class _OnHost:
    """A tensor of the stand-in, as memory of the CPU."""

    device = "cpu"

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tensor, name)


def _place(_backend: ort.OnnxRuntime, settings: EngineSettings) -> str:
    device, _, index = settings.device.partition(":")
    return "cpu" if device == "cpu" else f"cuda:{index or 0}"


_choose_provider = ort.choose_provider


def _provider(settings: EngineSettings, library: Any) -> tuple[str, dict[str, str]]:
    on_gpu = settings.device.startswith("cuda")
    return (ort.PROVIDERS["cpu"], {}) if on_gpu else _choose_provider(settings, library)


class _Runner:
    """A session that does as if it were on the stream: what was put there before it is done first. Its runs can be
    recorded, as TensorRT's.
    """

    def __init__(self, runner: Runner, stream: int | None) -> None:
        self._runner, self._stream = runner, stream
        self.description = runner.description
        self.close = runner.close

    def bind(self, tensors: Mapping[str, Any]) -> Call:
        call = self._runner.bind({name: _OnHost(tensor) for name, tensor in tensors.items()})
        return call if self._stream is None else _OnStream(call, self._stream)


class _OnStream:
    version = 0

    def __init__(self, call: Call, stream: int) -> None:
        self._call, self._stream = call, stream
        self._captured: list[object] = []
        self.recordable = False

    def run(self) -> None:
        self._captured.append(machine.run(self._stream, self._call.run))
        self.recordable = True


_open = ort.OnnxRuntime.open


def _opened(backend: ort.OnnxRuntime, bundle: Bundle, graph: str, settings: EngineSettings) -> Runner:
    return _Runner(_open(backend, bundle, graph, settings), settings.stream)


ort.OnnxRuntime.place = _place
ort.OnnxRuntime.open = _opened
ort.choose_provider = _provider
