"""ONNX models run as they stand, with any of their values as outputs. In: a model in memory. Out: arrays.

Engines themselves are run through `engines`; this is for the canonical files, and for looking inside a graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from engines.errors import EngineError
from engines.ort import PROVIDERS, import_onnxruntime, usable_cores
from export.figures import Array
from export.verifying.onnx_graph import OnnxGraph, pruned

CPU = PROVIDERS["cpu"]
_CAST = ".as_float32"
"""Ends the name of an output that was made float32 to be looked at; results have the value's own name."""


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How ONNX Runtime runs a model."""

    provider: str = CPU
    optimized: bool = False
    """Whether the graph may be rewritten; without it, weights are neither copied nor widened."""
    threads: int | None = None
    """Of the CPU; None: the cores that this process may use."""


class Session:
    """A model opened by ONNX Runtime.

    Args:
        model: without its external data.
        folder: of the external data.
        settings: how to run it.

    Raises:
        EngineError: ONNX Runtime refuses the model.
    """

    def __init__(self, model: onnx.ModelProto, folder: Path, settings: SessionSettings) -> None:
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = settings.threads or usable_cores()
        options.log_severity_level = 4
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
        if not settings.optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry("session.disable_prepacking", "1")
        providers = list(dict.fromkeys((settings.provider, CPU)))  # the CPU for what the provider does not have
        try:
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=providers)
        except Exception as error:  # ONNX Runtime's exception types share no base but Exception
            raise EngineError(f"ONNX Runtime {ort.__version__} cannot open a graph of {folder}: {error}") from error
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name.

        Raises:
            EngineError: ONNX Runtime failed; the text holds its own words.
        """
        try:
            results = self._session.run(self._outputs, {name: inputs[name] for name in self._inputs})
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime failed: {error}") from error
        return {name.removesuffix(_CAST): value for name, value in zip(self._outputs, results, strict=True)}


def marked(graph: OnnxGraph, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model whose outputs are these values, as float32, and that computes nothing else."""
    halves = [name for name in names if graph.types.get(name) == TensorProto.FLOAT16]
    model = pruned(graph, [helper.make_tensor_value_info(name, graph.types[name], None) for name in names])
    for name in halves:
        model.graph.node.append(helper.make_node("Cast", [name], [f"{name}{_CAST}"], to=TensorProto.FLOAT))
    for output in model.graph.output:
        if output.name in halves:
            output.CopyFrom(helper.make_tensor_value_info(f"{output.name}{_CAST}", TensorProto.FLOAT, None))
    return model


def run_marked(
    graph: OnnxGraph, names: Sequence[str], inputs: Mapping[str, Array], settings: SessionSettings
) -> dict[str, Array]:
    """The values of these names.

    Raises:
        EngineError: ONNX Runtime refuses the graph or fails.
    """
    return Session(marked(graph, names), graph.folder, settings).run(inputs)
