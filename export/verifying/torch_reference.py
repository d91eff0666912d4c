"""The fp32 torch networks as the reference. In: a checkpoint. Out: a `Reference` whose intermediate results are those
of torch's own functions, in the order of their calls.

Weights are the checkpoint's mapped pages; one graph's network is there at a time.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engines.bundle import Manifest
from engines.errors import SettingsError
from engines.graphs import GraphSpec
from engines.memory import trim_heap
from export.figures import Array
from export.source import Source, open_source
from export.stages import Stage, stages
from export.verifying.onnx_graph import Place
from export.verifying.reference import Network
from export.verifying.sampling import step_of

_STEMS = {
    "flatten": "view",
    "reshape": "view",
    "interpolate": "upsample_nearest2d",
    "pad": "constant_pad_nd",
    "__add__": "add",
    "__radd__": "add",
    "__sub__": "sub",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__truediv__": "div",
}
"""Names that the exporter has others for."""


class TorchReference:
    """The networks of a checkpoint; see `export.verifying.reference.Reference`."""

    limits = ""
    independent = True

    def __init__(self, source: Source, manifest: Manifest) -> None:
        self.description = f"the fp32 torch networks of {source.checkpoint.path.name}, torch {torch.__version__}"
        self._source = source
        with torch.no_grad():
            found = stages(source, split_controlnet="controlnet" in manifest.graphs)
        self._stages: dict[str, Stage] = {stage.spec.name: stage for stage in found}
        if self._stages.keys() != manifest.graphs.keys():
            raise SettingsError(
                f"the checkpoint makes the graphs {', '.join(self._stages)}, the bundle has "
                f"{', '.join(manifest.graphs)}; give the checkpoint that it was exported from"
            )

    @contextlib.contextmanager
    def open(self, graph: str) -> Iterator[Network]:
        """See `export.verifying.reference.Reference.open`."""
        stage = self._stages[graph]
        with torch.no_grad():
            module: nn.Module = stage.create().eval()
        try:
            yield TorchNetwork(module, stage.spec, self._source.checkpoint.release)
        finally:
            del module
            gc.collect()
            self._source.checkpoint.release()
            trim_heap()


class TorchNetwork:
    """A torch module called as its graph is; see `export.verifying.reference.Network`.

    `release` gives the weights' pages back when the engine's turn comes.
    """

    def __init__(self, module: nn.Module, spec: GraphSpec, release: Callable[[], None]) -> None:
        self._module, self._spec, self._release = module, spec, release
        self._parameters = {id(tensor): name for name, tensor in _named_tensors(module)}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Network.run`."""
        with torch.inference_mode():
            result = self._module(*self._tensors(inputs))
        outputs = result if isinstance(result, tuple) else (result,)
        return {spec.name: output.numpy() for spec, output in zip(self._spec.outputs, outputs, strict=True)}

    def places(self, inputs: Mapping[str, Array]) -> list[Place]:
        """See `Network.places`."""
        found: list[Place] = []

        def note(_index: int, function: Callable[..., Any], operands: tuple[str, ...], module: str, _: Tensor) -> None:
            stem = _stem(function)
            names = tuple(n for n in operands if n.endswith(".bias")) if stem == "linear" else operands
            found.append(Place(stem=stem, parameters=names, operands=operands, module=module))

        self._walk(inputs, note)
        return found

    def samples(self, inputs: Mapping[str, Array]) -> list[Array]:
        """See `Network.samples`."""
        found: list[Array] = []

        def keep(_index: int, _function: object, _operands: object, _module: str, result: Tensor) -> None:
            found.append(np.array(result.flatten()[:: step_of(result.numel())].float().numpy()))

        self._walk(inputs, keep)
        return found

    def capture(self, inputs: Mapping[str, Array], indices: Sequence[int]) -> dict[int, Array]:
        """See `Network.capture`."""
        found: dict[int, Array] = {}

        def keep(index: int, _function: object, _operands: object, _module: str, result: Tensor) -> None:
            if index in indices:
                found[index] = np.array(result.float().numpy())

        self._walk(inputs, keep)
        return found

    def parameter(self, name: str) -> Array | None:
        """See `Network.parameter`."""
        for known, tensor in _named_tensors(self._module):
            if known == name:
                found: Array = tensor.detach().float().numpy()
                return found
        return None

    def _tensors(self, inputs: Mapping[str, Array]) -> list[Tensor]:
        return [torch.from_numpy(inputs[spec.name]) for spec in self._spec.inputs]

    def _walk(self, inputs: Mapping[str, Array], visit: Callable[..., None]) -> None:
        """Runs the module and shows every floating tensor that one of torch's functions makes."""
        path: list[str] = []
        hooks = []
        for name, module in self._module.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: path.append(name)))
            hooks.append(module.register_forward_hook(lambda *_: _leave(path)))
        try:
            tensors = self._tensors(inputs)
            with torch.inference_mode(), _Watch(self._parameters, path, visit):
                self._module(*tensors)
        finally:
            for hook in hooks:
                hook.remove()
            self._release()


class _Watch(TorchFunctionMode):
    """Sees every call of a torch function while it is active, and none that such a function makes itself."""

    def __init__(self, parameters: Mapping[int, str], path: Sequence[str], visit: Callable[..., None]) -> None:
        super().__init__()
        self._parameters, self._path, self._visit = parameters, path, visit
        self._count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls the function and shows what it gave."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            given = (*args, *(kwargs or {}).values())
            operands = tuple(self._parameters[id(value)] for value in given if id(value) in self._parameters)
            self._visit(self._count, func, operands, self._path[-1] if self._path else "", result)
            self._count += 1
        return result


def open_torch_reference(
    manifest: Manifest, checkpoint: Path, config: Path | None, context: Path | None
) -> TorchReference:
    """The networks of a checkpoint, read as `export.build` reads it.

    Raises:
        ExportError: see `export.source.open_source`.
        SettingsError: its graphs are not the bundle's.
    """
    t1 = manifest.schedule.t1
    with torch.no_grad():
        source = open_source(checkpoint, config, context, t1=t1, prediction=manifest.prediction)
    return TorchReference(source, manifest)


def _named_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _leave(path: list[str]) -> None:
    path.pop()


def _stem(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    return _STEMS.get(name, name)
