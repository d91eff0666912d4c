"""A few thousand elements of every intermediate result, from one run. In: a graph. Out: small arrays.

All of a large network's intermediate results do not fit into memory; evenly spaced elements of each do, and a wrong
tensor is wrong in them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.figures import Array
from export.verifying.onnx_graph import OnnxGraph, pruned
from export.verifying.sessions import Session, SessionSettings

ELEMENTS = 4096
"""At most, of each tensor."""
_SAMPLE = ".sample"


def step_of(size: int) -> int:
    """Of the elements of a tensor, in the order of memory, every so-manieth is taken."""
    return size // ELEMENTS + 1


def run_sampled(
    graph: OnnxGraph, names: Sequence[str], inputs: Mapping[str, Array], settings: SessionSettings
) -> dict[str, Array]:
    """Elements of the values of these names, [n] float32 each.

    Raises:
        EngineError: ONNX Runtime refuses the graph or fails.
    """
    if not names:
        return {}
    found = Session(_sampled(graph, names), graph.folder, settings).run(inputs)
    return {name: found[f"{name}{_SAMPLE}"] for name in names}


def _sampled(graph: OnnxGraph, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model that gives `step_of`'s elements of these values."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    numbers = {"flat": -1, "elements": ELEMENTS, "one": 1, "begin": 0, "end": np.iinfo(np.int64).max}
    for key, number in numbers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array([number], np.int64), f"{_SAMPLE}.{key}"))
    flat_shape, elements, one, begin, end = (f"{_SAMPLE}.{key}" for key in numbers)
    add = model.graph.node.append
    for name in names:
        part = [f"{name}{_SAMPLE}.{key}" for key in ("flat", "size", "times", "step", "taken")]
        flat, size, times, step, taken = part
        add(helper.make_node("Reshape", [name, flat_shape], [flat]))
        add(helper.make_node("Shape", [flat], [size]))
        add(helper.make_node("Div", [size, elements], [times]))
        add(helper.make_node("Add", [times, one], [step]))
        add(helper.make_node("Slice", [flat, begin, end, begin, step], [taken]))
        add(helper.make_node("Cast", [taken], [f"{name}{_SAMPLE}"], to=TensorProto.FLOAT))
    outputs = [helper.make_tensor_value_info(f"{name}{_SAMPLE}", TensorProto.FLOAT, None) for name in names]
    return pruned(OnnxGraph(model, graph.folder), outputs)
