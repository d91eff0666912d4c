"""Types and ranks of a graph's values. In: a graph. Out: those that follow from what the file states.

A file states them of its inputs, outputs and constants, seldom of the values in between. Those follow from node to
node; what does not follow is left out, and never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engines.onnx_graph import FLOAT, INT64, Node, OnnxGraph, TensorInfo

BOOL = 9
_GIVES_INT64 = frozenset({"ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "Shape", "Size"})
_GIVES_BOOL = frozenset(
    ("And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor")
)
_TYPE_OF_INPUT = {"CastLike": 1, "DequantizeLinear": 1, "OneHot": 2, "QuantizeLinear": 2, "Where": 1}
"""Which input's type an output has, where it is not the first one's."""
_OF_OTHER_TYPES = """
    BlackmanWindow ConvInteger DynamicQuantizeLinear HammingWindow HannWindow If ImageDecoder Loop MatMulInteger
    Multinomial Optional QLinearConv QLinearMatMul RegexFullMatch Scan SequenceAt StringSplit TfIdfVectorizer Unique
"""
_UNKNOWN = frozenset(_OF_OTHER_TYPES.split())
_SAME_RANK = frozenset(
    ("Cast", "CastLike", "Clip", "Dropout", "Gelu", "Identity", "Pad", "Relu", "Sigmoid", "Slice", "Softmax", "Tanh")
)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of values, by name."""

    dtypes: Mapping[str, int]
    """TensorProto.DataType."""
    ranks: Mapping[str, int]
    constants: Mapping[str, TensorInfo]
    """Initializers and `Constant` nodes, and those of the graphs around."""
    stated: Mapping[str, TensorInfo]
    """What the file says of values that are no constants."""
    inputs: frozenset[str]
    """Of this graph and of those around it: values that only come when it runs."""


def known_values(graph: OnnxGraph, around: Known | None = None) -> Known:
    """All that follows in a graph; `around` is what the graph around it, if there is one, knows."""
    around = around or Known(dtypes={}, ranks={}, constants={}, stated={}, inputs=frozenset())
    stated = {**around.stated, **graph.values, **graph.inputs}
    constants = {**around.constants, **graph.constants}
    here = {**graph.values, **graph.inputs, **graph.constants}
    dtypes = {**around.dtypes, **{name: info.dtype for name, info in here.items() if info.dtype}}
    ranks = {**around.ranks, **{name: len(info.shape) for name, info in here.items() if info.shape}}
    for node in graph.nodes:
        if node.op == "Constant" and isinstance(value := node.attributes.get("value"), TensorInfo):
            constants[node.outputs[0]] = value
        rank = _rank(node, ranks, constants)
        for index, name in enumerate(node.outputs):
            if dtype := _dtype(node, index, dtypes):
                dtypes.setdefault(name, dtype)
            if rank is not None:
                ranks.setdefault(name, rank)
    inputs = around.inputs | graph.inputs.keys()
    return Known(dtypes=dtypes, ranks=ranks, constants=constants, stated=stated, inputs=inputs)


def _dtype(node: Node, index: int, dtypes: Mapping[str, int]) -> int | None:
    op, value = node.op, node.attributes.get("value")
    if op == "Cast" and isinstance(to := node.attributes.get("to"), int):
        return to
    if op in ("Constant", "ConstantOfShape"):
        default = FLOAT if op == "ConstantOfShape" else None
        return value.dtype if isinstance(value, TensorInfo) else default
    if op in _GIVES_BOOL:
        return BOOL
    if op in _GIVES_INT64 or (op in ("MaxPool", "TopK") and index == 1):
        return INT64
    if op in _UNKNOWN or ":" in op or "dtype" in node.attributes or (op == "Dropout" and index == 1):
        return None
    source = _TYPE_OF_INPUT.get(op, 0)
    return dtypes.get(node.inputs[source]) if source < len(node.inputs) else None


def _rank(node: Node, ranks: Mapping[str, int], constants: Mapping[str, TensorInfo]) -> int | None:
    if node.op == "Transpose" and isinstance(order := node.attributes.get("perm"), tuple):
        return len(order)
    source = ranks.get(node.inputs[0]) if node.inputs else None
    beside = constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.op == "Reshape" and beside is not None:
        return int(beside.shape[0]) if beside.shape else None
    if node.op == "Unsqueeze" and beside is not None and source is not None:
        return source + (int(beside.shape[0]) if beside.shape else 1)
    return source if node.op in _SAME_RANK else None
