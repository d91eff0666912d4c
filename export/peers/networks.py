"""The ways of others to run the networks. In: a task. Out: `Networks`, whose methods take and give torch tensors.

A new peer is one function and one line in `PEERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engines import graphs
from engines.bundle import open_bundle
from engines.errors import EngineUnavailableError, PackageMissingError
from export.errors import CheckpointNotFoundError
from export.reference import load_reference


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a peer is opened with."""

    bundle: Path
    checkpoint: Path | None
    config: Path | None
    context: Path | None
    device: str
    """cpu, cuda or cuda:N."""
    threads: int


class Networks(Protocol):
    """Every graph as a call; tensors are float32 on `device`."""

    device: torch.device
    description: str

    def call(self, graph: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Runs a graph of `engines.graphs`, inputs and outputs in its order."""

    def has(self, graph: str) -> bool:
        """Whether there is such a graph."""


class TorchNetworks:
    """diffusers' modules in PyTorch."""

    def __init__(
        self, setup: Setup, *, half: bool = False, channels_last: bool = False, compiled: bool = False
    ) -> None:
        if setup.checkpoint is None:
            raise CheckpointNotFoundError("PyTorch needs the checkpoint of the bundle; pass --checkpoint model.ckpt")
        self.device = torch.device(setup.device)
        reference = load_reference(setup.checkpoint, setup.config, setup.context)
        self._modules: dict[str, Callable[..., Any]] = {}
        for name, module in reference.modules.items():
            ready = self._ready(module, half, channels_last)
            self._modules[name] = torch.compile(ready) if compiled else ready
        self._channels_last = channels_last
        way = ("half" if half else "fp32") + (", channels last" if channels_last else "")
        self.description = f"torch {torch.__version__} {'compiled' if compiled else 'eager'}, {way}"

    def _ready(self, module: nn.Module, half: bool, channels_last: bool) -> nn.Module:
        module = module.half() if half else module
        if channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub leaves this form out
        return module.to(self.device)

    def call(self, graph: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `Networks.call`."""
        if self._channels_last:
            inputs = tuple(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs)
        found = self._modules[graph](*inputs)
        return found if isinstance(found, tuple) else (found,)

    def has(self, graph: str) -> bool:
        """See `Networks.has`."""
        return graph in self._modules


Feed = Callable[[Mapping[str, Any]], list[Any]]
"""NumPy arrays by name to NumPy arrays in order."""


class FileNetworks:
    """A bundle's canonical ONNX files, opened one by one; their inputs and outputs are NumPy arrays of the host."""

    device = torch.device("cpu")

    def __init__(self, setup: Setup, opened: Callable[[Path], Feed], description: str) -> None:
        bundle = open_bundle(setup.bundle)
        self.description = description
        self._specs = {name: entry.spec for name, entry in bundle.manifest.graphs.items()}
        self._feeds = {name: opened(bundle.path(entry.file)) for name, entry in bundle.manifest.graphs.items()}

    def call(self, graph: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `Networks.call`; a split ControlNet and UNet run one after the other."""
        spec = self._specs.get(graph, graphs.DENOISE)
        arrays = {s.name: x.contiguous().numpy() for s, x in zip(spec.inputs, inputs, strict=True)}
        for part in (graph,) if graph in self._feeds else ("controlnet", "unet"):
            names = [s.name for s in self._specs[part].inputs]
            found = self._feeds[part]({name: arrays[name] for name in names})
            arrays |= {s.name: array for s, array in zip(self._specs[part].outputs, found, strict=True)}
        return tuple(torch.from_numpy(arrays[s.name]) for s in spec.outputs)

    def has(self, graph: str) -> bool:
        """See `Networks.has`."""
        return graph in self._feeds


def _onnxruntime(setup: Setup) -> Networks:
    """ONNX Runtime as it comes: its own session options, the graphs as exported."""
    try:
        import onnxruntime
    except ImportError as error:
        raise PackageMissingError("the peer onnxruntime needs onnxruntime; run `pip install onnxruntime`") from error
    kind, _, index = setup.device.partition(":")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[kind]
    if provider not in onnxruntime.get_available_providers():
        raise EngineUnavailableError(f"the installed ONNX Runtime has no {provider}; install the build that has it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setup.threads
    options.log_severity_level = 3  # warnings about the provider's placement of nodes would fill the screen
    providers: list[Any] = [(provider, {"device_id": index or "0"} if kind == "cuda" else {})]

    def opened(path: Path) -> Feed:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        return lambda arrays: list(session.run(None, dict(arrays)))

    return FileNetworks(setup, opened, f"onnxruntime {onnxruntime.__version__}, {provider}, canonical graphs")


def _openvino(setup: Setup) -> Networks:
    """OpenVINO on a CPU, computing in float32 as the others do."""
    try:
        import openvino
    except ImportError as error:
        raise PackageMissingError("the peer openvino needs OpenVINO; run `pip install openvino`") from error
    if setup.device != "cpu":
        raise EngineUnavailableError(f"the peer openvino runs on the CPU only, not on {setup.device}; leave it out")
    version = str(openvino.__version__).partition("-")[0]  # the rest names a build
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": setup.threads}

    def opened(path: Path) -> Feed:
        compiled = core.compile_model(core.read_model(path), "CPU", options)
        return lambda arrays: [array.copy() for array in compiled(dict(arrays)).values()]

    return FileNetworks(setup, opened, f"OpenVINO {version}, canonical graphs, f32")


PEERS: dict[str, Callable[[Setup], Networks]] = {
    "eager": TorchNetworks,
    "eager-half": lambda setup: TorchNetworks(setup, half=True),
    "eager-channels-last": lambda setup: TorchNetworks(setup, channels_last=True),
    "compile": lambda setup: TorchNetworks(setup, compiled=True),
    "compile-half": lambda setup: TorchNetworks(setup, half=True, channels_last=True, compiled=True),
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
