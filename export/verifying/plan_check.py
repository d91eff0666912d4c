"""Whether a plan that TensorRT has just built is right. In: a plan, and the bundle that it is of. Out: figures, or an
error.

The plan runs on the GPU, the graph in float32 on the CPU, on the same random inputs: at a size of each profile, and for
the denoiser at an early and a late timestep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from engines.bundle import Bundle, Precision
from engines.profiles import Size
from engines.trt import open_plan
from engines.trt_options import PlanOptions
from engines.trt_plans import Machine, onnx_file
from export.errors import PlanDepartsError
from export.figures import ADDED_TO, FP16_ARITHMETIC, GATES, Array, Figures, compare, std
from export.lowering import onnxruntime_cpu
from export.lowering.editor import GraphEditor
from export.lowering.widen import widen
from export.samples import random_inputs, sizes
from export.verifying.candidates import empty_outputs
from export.verifying.device import DeviceStream, unavailable
from export.verifying.sessions import Session, SessionSettings

NOT_VERIFIED = "not_verified"
"""In a plan's figures: why it was not run."""
_TIMESTEPS = (499.0, 37.0)
_MOST_PIXELS = 128 * 128
"""Of the latent: a 1024x1024 result takes the CPU about 10 GB and a minute."""


class PlanCheck:
    """What `engines.trt_bundle.build_engines` calls for each plan.

    Args:
        bundle: as the plans are built of.
        machine: that they are built for.
        options: that they are built with.
        device: N of cuda:N.
    """

    def __init__(self, bundle: Bundle, machine: Machine, options: PlanOptions, device: int) -> None:
        self._bundle, self._machine, self._options, self._device = bundle, machine, options, device
        half = bundle.manifest.precision is Precision.FP16
        self._gate = FP16_ARITHMETIC if half else GATES[bundle.manifest.precision]
        self._reason = unavailable(f"cuda:{device}")

    def __call__(self, graph: str, plan: Path) -> Mapping[str, Any]:
        """Runs the plan on every case.

        Returns:
            `deviation` (see `export.figures.Gate`), `cosine` (smallest), `difference` (largest absolute), `cases`; or
            `NOT_VERIFIED` alone, with the reason.

        Raises:
            PlanDepartsError: NaN, infinity, or a figure beyond its gate.
            EngineError: the plan cannot be opened or run.
        """
        found = check_sizes(self._options)
        if self._reason or not found:
            return {NOT_VERIFIED: self._reason or "every profile is too large for a reference on the CPU"}
        spec = self._bundle.manifest.graphs[graph].spec
        onnx = self._bundle.path(onnx_file(self._bundle, graph, self._machine.tensorrt))
        stream = DeviceStream(f"cuda:{self._device}")
        runner = open_plan(plan, spec, self._options, onnx, device=self._device, stream=stream.ptr)
        reference = open_reference(self._bundle, graph)
        worst: list[Figures] = []
        cases = []
        try:
            for size, timestep, seed in self._cases(graph, found):
                inputs = random_inputs(spec, sizes(*size), timestep=timestep, seed=seed)
                outputs = empty_outputs(spec, inputs)
                stream.call(runner, inputs, outputs)
                label = "x".join(map(str, size))
                for item in sorted({0, size[0] - 1}):
                    alone = _item(inputs, item, size[0])
                    worst += self._compared(graph, label, alone, _item(outputs, item, size[0]), reference)
                cases.append(label)
        finally:
            runner.close()
        return {
            "deviation": float(f"{max(figures.deviation for figures in worst):.6g}"),
            "cosine": float(f"{min(figures.cosine for figures in worst):.6g}"),
            "difference": float(f"{max(figures.max_abs for figures in worst):.6g}"),
            "cases": list(dict.fromkeys(cases)),
        }

    def _cases(self, graph: str, found: Sequence[Size]) -> Iterator[tuple[Size, float, int]]:
        """Size, timestep and seed."""
        manifest = self._bundle.manifest
        steps = (*manifest.baked_timesteps[:1], *manifest.baked_timesteps[-1:]) or _TIMESTEPS
        timed = any(tensor.name == "timestep" for tensor in manifest.graphs[graph].spec.inputs)
        for size in found:
            for seed, timestep in enumerate(steps if timed else steps[:1], start=1):
                yield size, timestep, seed

    def _compared(
        self, graph: str, label: str, inputs: Mapping[str, Array], outputs: Mapping[str, Array], reference: Session
    ) -> list[Figures]:
        """Figures of each output of one item."""
        expected = reference.run(inputs)
        found = []
        for name, values in outputs.items():
            beside = expected.get(ADDED_TO.get(name, ""))
            figures = compare(values, expected[name], spread=0.0 if beside is None else std(beside))
            where = f"{name} of the engine of graph {graph} at {label}"
            if figures.nan or figures.inf:
                raise PlanDepartsError(
                    f"{where} holds {figures.nan} NaN and {figures.inf} infinite numbers, expected finite ones",
                    graph,
                    inputs,
                )
            if not figures.within(self._gate):
                raise PlanDepartsError(
                    f"{where} differs from the graph in float32 by {figures.deviation:.2e} of its spread, cosine "
                    f"{figures.cosine:.6f}; at most {self._gate.deviation:.0e} and at least {self._gate.cosine} are "
                    "accepted",
                    graph,
                    inputs,
                )
            found.append(figures)
        return found


def check_sizes(options: PlanOptions) -> list[Size]:
    """A size of each profile that the CPU can be asked for, too: its optimum, else its smallest."""
    found = []
    for profile in options.profiles:
        fitting = [size for size in (profile.opt, profile.min) if size[1] * size[2] <= _MOST_PIXELS]
        found += fitting[:1]
    return list(dict.fromkeys(found))


def open_reference(bundle: Bundle, graph: str) -> Session:
    """The graph in float32 on the CPU: its form for ONNX Runtime there, whose attention writes out no matrix and which
    was held against the torch module at export; else the canonical file, widened.
    """
    entry = bundle.manifest.graphs[graph]
    lowered = entry.lowered.get(onnxruntime_cpu.BACKEND)
    path = bundle.path(lowered or entry.file)
    model = onnx.load(path, load_external_data=False)
    if lowered is None:
        widen(GraphEditor(model))
    return Session(model, path.parent, SessionSettings())


def _item(arrays: Mapping[str, Array], item: int, batch: int) -> dict[str, Array]:
    """One item of a batch; what belongs to all of it stays."""
    return {
        name: np.ascontiguousarray(array[item : item + 1]) if array.ndim > 1 and array.shape[0] == batch else array
        for name, array in arrays.items()
    }
