"""A graph's module to an ONNX file. In: an `nn.Module` and its spec. Out: `model.onnx` and `model.onnx.data`.

Opset 23, where GroupNormalization, Gelu and Attention are single operators: lowering them for one backend is easy,
lifting decomposed ones is not.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from engines.graphs import AxisRange, GraphSpec, TensorSpec, parse_dim
from export.errors import ExportError
from export.limits import is_out_of_memory
from export.quiet import quietly
from export.samples import random_inputs, sizes

OPSET = 23
MODEL = "model.onnx"
TRACED = (2, 16, 24)
"""Batch, height and width of the latent that dynamic graphs are traced at: torch pins a batch of 1, and a square."""


def export_graph(
    module: nn.Module,
    spec: GraphSpec,
    axes: Mapping[str, AxisRange],
    folder: Path,
    static: tuple[int, int] | None,
) -> Path:
    """Writes `folder/model.onnx` with its weights beside it.

    Args:
        module: takes and returns tensors in the spec's order.
        spec: names and symbolic shapes.
        axes: the range of each dynamic axis.
        folder: is created.
        static: (H, W) of the latent to fix every shape (batch 1); None: every axis of the spec is dynamic.

    Raises:
        ExportError: torch refused, or named the tensors differently.
        MemoryError: the network does not fit.
    """
    folder.mkdir(parents=True)
    axis_sizes = sizes(*TRACED) if static is None else sizes(1, *static)
    inputs = tuple(map(torch.from_numpy, random_inputs(spec, axis_sizes).values()))
    dynamic = None if static else _dynamic_shapes(spec, axes)
    path = folder / MODEL
    try:
        _trace_and_save(module, inputs, spec, dynamic, path)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the exporter's errors share no base but Exception
        reason = " ".join(str(error).split())
        if is_out_of_memory(error):
            raise MemoryError(reason) from error
        raise ExportError(
            f"torch {torch.__version__} cannot export {spec.name} ({type(error).__name__}: {reason[:160]}); install "
            "the versions in constraints.txt"
        ) from error
    model = onnx.load(path, load_external_data=False)
    clean(model)
    for values, tensors in ((model.graph.input, spec.inputs), (model.graph.output, spec.outputs)):
        if [v.name for v in values] != [t.name for t in tensors]:
            raise ExportError(
                f"torch {torch.__version__} named the tensors of {spec.name} {[v.name for v in values]}, expected "
                f"{[t.name for t in tensors]}; install the versions in constraints.txt"
            )
        if static is None:
            for value, tensor in zip(values, tensors, strict=True):
                _name_axes(value, tensor)
    onnx.save(model, path)
    return path


def _trace_and_save(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], spec: GraphSpec, dynamic: tuple[Any, ...] | None, path: Path
) -> None:
    with quietly(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=[t.name for t in spec.inputs],
            output_names=[t.name for t in spec.outputs],
            dynamic_shapes=dynamic,
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=True)


def _dynamic_shapes(spec: GraphSpec, axes: Mapping[str, AxisRange]) -> tuple[Any, ...]:
    """torch.export's form of the spec: each axis a multiple of one unknown, in the order of the inputs."""
    unknowns = {
        name: torch.export.Dim(f"{name}_units", min=axes[name].min // axes[name].multiple, max=_units(axes[name]))
        for name in spec.axes
    }
    shapes: list[Any] = []
    for tensor in spec.inputs:
        dims: dict[int, Any] = {}
        for position, dim in enumerate(tensor.shape):
            if isinstance(dim, str):
                axis, numerator, denominator = parse_dim(dim)
                factor = axes[axis].multiple * numerator // denominator
                dims[position] = factor * unknowns[axis] if factor > 1 else unknowns[axis]
        shapes.append(dims or None)
    plain = [s for t, s in zip(spec.inputs, shapes, strict=True) if not t.name.removeprefix("control_").isdigit()]
    starred = tuple(shapes[len(plain) :])
    return (*plain, starred) if starred else tuple(plain)


def _units(axis: AxisRange) -> int:
    return max(axis.max // axis.multiple, 2)


def _name_axes(value: onnx.ValueInfoProto, spec: TensorSpec) -> None:
    """Gives the dimensions of an input or output the spec's names."""
    for dim, name in zip(value.type.tensor_type.shape.dim, spec.shape, strict=True):
        if isinstance(name, str):
            dim.dim_param = name
        elif dim.dim_value != name:
            dim.dim_value = name


def clean(model: onnx.ModelProto) -> None:
    """Takes out what the exporter notes about the machine it ran on, and shapes under its own axis names."""
    model.producer_name, model.producer_version, model.doc_string = "dossr-deploy", "", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "dossr", ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
        del function.value_info[:]
        for node in function.node:
            del node.metadata_props[:]
