"""A plan's inputs and outputs. In: an engine and the graph's table. Out: nothing, or an error that names both sides."""

from __future__ import annotations

from engines.errors import EngineError
from engines.graphs import GraphSpec
from engines.trt_library import trt

DTYPES = {"float32": "FLOAT", "float16": "HALF", "uint8": "UINT8", "int64": "INT64"}
"""Our names to TensorRT's DataType."""


def check_tensors(engine: trt.ICudaEngine, graph: GraphSpec, error: type[EngineError] = EngineError) -> None:
    """Names, directions, dtypes, ranks and places of every input and output.

    Raises:
        EngineError: or of the kind asked for: the first contradiction.
    """
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    expected = {tensor.name: tensor for tensor in (*graph.inputs, *graph.outputs)}
    if set(names) != expected.keys():
        raise error(
            f"the engine of graph {graph.name} has the tensors {sorted(names)}, expected {sorted(expected)}; build it "
            "again"
        )
    inputs = {tensor.name for tensor in graph.inputs}
    for name, tensor in expected.items():
        mode = trt.TensorIOMode.INPUT if name in inputs else trt.TensorIOMode.OUTPUT
        wanted = trt.DataType.__members__[DTYPES[tensor.dtype]]
        dtype, rank = engine.get_tensor_dtype(name), len(engine.get_tensor_shape(name))
        right = engine.get_tensor_mode(name) == mode and engine.get_tensor_location(name) == trt.TensorLocation.DEVICE
        if dtype != wanted or rank != len(tensor.shape) or not right:
            raise error(
                f"{name} of the engine of graph {graph.name} is {dtype.name} of {rank} dimensions, "
                f"{engine.get_tensor_mode(name).name}, on {engine.get_tensor_location(name).name}; expected "
                f"{wanted.name} of {len(tensor.shape)}, {mode.name}, on DEVICE; build it again"
            )
