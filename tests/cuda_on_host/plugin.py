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
from engines.base import Call, EngineSettings
from tests.cuda_on_host.build import load, on_host_path

native = load(on_host_path())
sys.modules["runtime._native"] = native
runtime._native = native


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


def _provider(settings: EngineSettings, _ort: Any) -> tuple[str, dict[str, str]]:
    return ort.PROVIDERS["cpu"], dict(settings.provider_options)


_bind = ort.OnnxRuntimeRunner.bind


def _bound(runner: ort.OnnxRuntimeRunner, tensors: Mapping[str, Any]) -> Call:
    return _bind(runner, {name: _OnHost(tensor) for name, tensor in tensors.items()})


ort.OnnxRuntime.place = _place
ort.OnnxRuntimeRunner.bind = _bound
ort.choose_provider = _provider
