"""Whether a graph computes what the network computes. In: an ONNX file and the fp32 module's answers. Out: figures, or
an error.

Every graph runs on ONNX Runtime's CPU provider at sizes and a batch that it was not traced at, on random inputs. Its
graph optimizations are off: they belong to ONNX Runtime and not to the file, and they make copies of every weight (an
fp16 file is widened whole, 7.9 GiB at full size; without them one weight at a time, 3.6 GiB).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.bundle import Precision
from engines.graphs import GraphSpec
from engines.ort import import_onnxruntime, usable_cores
from export.errors import ExportError, ExportVerificationError
from export.figures import ADDED_TO, GATES, Gate, compare, std
from export.limits import is_out_of_memory
from export.samples import random_inputs, sizes

CASES = ((1, 24, 16, 499.0), (3, 8, 32, 37.0))
"""Batch, height and width of the latent, and timestep."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """One case: inputs, and the fp32 module's outputs, by name."""

    label: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def expectations(
    module: nn.Module, spec: GraphSpec, static: tuple[int, int] | None, timesteps: Sequence[float] = ()
) -> list[Expectation]:
    """The fp32 module's answers, to be taken before it is cast; of the static size alone where there is one, and of the
    first and last of its baked timesteps.
    """
    cases = CASES if static is None else tuple((1, *static, timestep) for *_, timestep in CASES)
    if timesteps:
        ends = (timesteps[0], timesteps[-1])
        cases = tuple((b, h, w, timestep) for (b, h, w, _), timestep in zip(cases, ends, strict=True))
    found = []
    for seed, (batch, height, width, timestep) in enumerate(cases, start=1):
        arrays = random_inputs(spec, sizes(batch, height, width), timestep=timestep, seed=seed)
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        with torch.inference_mode():
            result = module(*inputs.values())
        outputs = result if isinstance(result, tuple) else (result,)
        found.append(
            Expectation(
                label=f"{batch}x{height}x{width}",
                inputs=inputs,
                outputs={t.name: o for t, o in zip(spec.outputs, outputs, strict=True)},
            )
        )
    return found


def verify(path: Path, spec: GraphSpec, expected: Sequence[Expectation], precision: Precision) -> dict[str, Any]:
    """Runs an ONNX file on every case.

    Returns:
        `deviation` (see `Gate`), `cosine` (smallest), `difference` (largest absolute), `cases`.

    Raises:
        ExportVerificationError: NaN, infinity, or a figure beyond its gate.
    """
    try:
        return _verify(path, spec, expected, precision)
    except (ExportError, MemoryError):
        raise
    except Exception as error:  # ONNX Runtime's exception types share no base but Exception
        if is_out_of_memory(error):
            raise MemoryError(f"{spec.name}: ONNX Runtime") from error
        raise ExportVerificationError(
            f"ONNX Runtime cannot run {spec.name} ({path.name}): {' '.join(str(error).split())[:200]}; free memory, or "
            "install the versions of constraints.txt"
        ) from error


def _verify(path: Path, spec: GraphSpec, expected: Sequence[Expectation], precision: Precision) -> dict[str, Any]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    figures = {"deviation": 0.0, "cosine": 1.0, "difference": 0.0}
    names = [t.name for t in spec.outputs]
    for case in expected:
        results = session.run(names, {name: value.numpy() for name, value in case.inputs.items()})
        for name, result in zip(names, results, strict=True):
            where = f"{spec.name}.{name} at {case.label} ({path.name})"
            beside = case.outputs.get(ADDED_TO.get(name, ""))
            spread = 0.0 if beside is None else std(beside.numpy())
            figures = _compare(torch.from_numpy(result), case.outputs[name], spread, figures, GATES[precision], where)
    return {**{k: float(f"{v:.6g}") for k, v in figures.items()}, "cases": [case.label for case in expected]}


def _compare(
    result: Tensor, reference: Tensor, spread: float, worst: dict[str, float], gate: Gate, where: str
) -> dict[str, float]:
    advice = "report it with the versions of torch, onnxscript and onnxruntime"
    if not torch.isfinite(reference).all():
        raise ExportVerificationError(
            f"{where}: the fp32 torch module itself gives NaN or infinity; the checkpoint's weights are damaged, "
            "download it again"
        )
    if not torch.isfinite(result).all():
        raise ExportVerificationError(f"{where} holds NaN or infinity, expected finite numbers; use --precision fp32")
    if result.shape != reference.shape:
        raise ExportVerificationError(
            f"{where} has shape {list(result.shape)}, expected {list(reference.shape)}; {advice}"
        )
    found = compare(result.numpy(), reference.numpy(), spread=spread)
    if not found.within(gate):
        raise ExportVerificationError(
            f"{where} differs from the fp32 torch module by {found.deviation:.2e} of its spread, cosine "
            f"{found.cosine:.6f}; at most {gate.deviation:.0e} and at least {gate.cosine} are accepted; {advice}"
        )
    return {
        "deviation": max(worst["deviation"], found.deviation),
        "cosine": min(worst["cosine"], found.cosine),
        "difference": max(worst["difference"], found.max_abs),
    }
