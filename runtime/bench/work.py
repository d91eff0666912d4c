"""Arithmetic and bytes of a graph at given sizes, counted from its ONNX file. In: a graph and sizes. Out: `Work`.

Counted is what the file says, before a backend fuses or replaces anything: two operations for each multiply-add of
convolutions, matrix products and attention, nothing for the rest. Nodes that compute only with weights cost nothing, as
backends fold them when they open a graph. Shapes are inferred here, so that no onnx package is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engines.errors import DossrError
from engines.graphs import parse_dim
from engines.onnx_graph import FLOAT, INT64, ITEM_BYTES, Node, OnnxGraph, TensorInfo, read_graph


class WorkError(DossrError):
    """A graph holds an operator whose work is not known here."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a graph has to do once."""

    flops: int
    """Floating-point operations."""
    least_bytes: int
    """Weights, inputs and outputs, each once: no engine can move less, unless weights stay in a cache."""
    unfused_bytes: int
    """Every operator's inputs and outputs: what an engine moves that keeps nothing in caches."""

    def __add__(self, other: Work) -> Work:
        return Work(
            flops=self.flops + other.flops,
            least_bytes=self.least_bytes + other.least_bytes,
            unfused_bytes=self.unfused_bytes + other.unfused_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    shape: tuple[int, ...]
    dtype: int
    values: tuple[float, ...] | None = None
    constant: bool = False

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES.get(self.dtype, 4)


_Inputs = list[_Tensor]
_Rule = Callable[[Node, _Inputs], list[_Tensor]]
"""(node, its inputs) to its outputs."""


def graph_work(model: Path, sizes: Mapping[str, int]) -> Work:
    """Counts one graph.

    Args:
        model: an ONNX file.
        sizes: axis to its size: B, H, W, h, w.

    Raises:
        WorkError: an operator that is not in the tables below, or a shape that cannot be followed.
        BundleSchemaError: not an ONNX file.
    """
    graph = read_graph(model)
    try:
        return _count(graph, sizes)
    except (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError) as error:
        raise WorkError(f"the shapes of {model} cannot be followed ({type(error).__name__}: {error})") from error


def _count(graph: OnnxGraph, sizes: Mapping[str, int]) -> Work:
    known = {"": _Tensor(shape=(0,), dtype=FLOAT, constant=True)}
    for name, info in graph.constants.items():
        known[name] = _Tensor(shape=_sized(info, sizes), dtype=info.dtype, values=info.values, constant=True)
    for name, info in graph.inputs.items():
        known[name] = _Tensor(shape=_sized(info, sizes), dtype=info.dtype)
    flops = unfused = 0
    weights: dict[str, int] = {}
    for node in graph.nodes:
        if node.op not in _RULES:
            raise WorkError(f"the work of operator {node.op} is not known; add it to runtime/bench/work.py")
        inputs = [known[name] for name in node.inputs]
        outputs = _RULES[node.op](node, inputs)
        constant = all(tensor.constant for tensor in inputs)
        for name, tensor in zip(node.outputs, outputs, strict=False):
            known[name] = replace(tensor, constant=constant)
        if constant or node.op in _VIEWS:
            continue
        if flop := _FLOPS.get(node.op):
            flops += flop(inputs, outputs)
        unfused += sum(tensor.nbytes for tensor in (*inputs, *outputs))
        weights |= {name: t.nbytes for name, t in zip(node.inputs, inputs, strict=True) if t.constant}
    ends = sum(known[name].nbytes for name in (*graph.inputs, *graph.outputs))
    return Work(flops=flops, least_bytes=sum(weights.values()) + ends, unfused_bytes=unfused)


def _sized(info: TensorInfo, sizes: Mapping[str, int]) -> tuple[int, ...]:
    shape = []
    for dim in info.shape:
        axis, numerator, denominator = parse_dim(dim) if isinstance(dim, str) else ("", dim, 1)
        shape.append((sizes[axis] if axis else 1) * numerator // denominator)
    return tuple(shape)


def _same(_node: Node, inputs: _Inputs) -> list[_Tensor]:
    return [replace(inputs[0], values=None)]


def _broadcast(node: Node, inputs: _Inputs) -> list[_Tensor]:
    """Elementwise; small whole numbers are computed, because shapes are made of them."""
    rank = max(len(tensor.shape) for tensor in inputs)
    shapes = [(1,) * (rank - len(tensor.shape)) + tensor.shape for tensor in inputs]
    shape = tuple(max(sides) if 0 not in sides else 0 for sides in zip(*shapes, strict=True))
    values = None
    operands = [tensor.values for tensor in inputs]
    if node.op in _NUMBERS and all(operands):
        count = math.prod(shape)
        rows = [list(v) * (count if len(v) == 1 else 1) for v in operands if v is not None]
        values = tuple(_NUMBERS[node.op](*pair) for pair in zip(*rows, strict=True))
        if inputs[0].dtype != FLOAT:  # whole numbers divide like C's
            values = tuple(float(math.trunc(v)) for v in values)
    return [_Tensor(shape=shape, dtype=inputs[0].dtype, values=values)]


_NUMBERS: dict[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
}


def _shape(node: Node, inputs: _Inputs) -> list[_Tensor]:
    shape = inputs[0].shape[_whole(node, "start", 0) : _whole(node, "end", len(inputs[0].shape))]
    return [_Tensor(shape=(len(shape),), dtype=INT64, values=tuple(map(float, shape)))]


def _cast(node: Node, inputs: _Inputs) -> list[_Tensor]:
    return [replace(inputs[0], dtype=_whole(node, "to", 1))]


def _squeeze(_node: Node, inputs: _Inputs) -> list[_Tensor]:
    shape = inputs[0].shape
    axes = {axis % len(shape) for axis in _ints(inputs, 1)} if len(inputs) > 1 else None
    kept = (s for i, s in enumerate(shape) if (i not in axes if axes is not None else s != 1))
    return [replace(inputs[0], shape=tuple(kept))]


def _unsqueeze(_node: Node, inputs: _Inputs) -> list[_Tensor]:
    axes = _ints(inputs, 1)
    shape = list(inputs[0].shape)
    rank = len(shape) + len(axes)
    for axis in sorted(a % rank for a in axes):
        shape.insert(axis, 1)
    return [replace(inputs[0], shape=tuple(shape))]


def _concat(node: Node, inputs: _Inputs) -> list[_Tensor]:
    axis = _whole(node, "axis", 0) % len(inputs[0].shape)
    shape = list(inputs[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in inputs)
    values = None
    if len(shape) == 1 and all(tensor.values is not None for tensor in inputs):
        values = tuple(v for tensor in inputs for v in tensor.values or ())
    return [replace(inputs[0], shape=tuple(shape), values=values)]


def _split(node: Node, inputs: _Inputs) -> list[_Tensor]:
    shape = inputs[0].shape
    axis = _whole(node, "axis", 0) % len(shape)
    count = len(node.outputs)
    each = -(-shape[axis] // count)
    parts = _ints(inputs, 1) if len(inputs) > 1 else [min(each, shape[axis] - i * each) for i in range(count)]
    return [replace(inputs[0], shape=(*shape[:axis], part, *shape[axis + 1 :]), values=None) for part in parts]


def _reshape(node: Node, inputs: _Inputs) -> list[_Tensor]:
    source, target = inputs[0].shape, _ints(inputs, 1)
    zero_copies = not _whole(node, "allowzero", 0)
    shape = [source[i] if size == 0 and zero_copies else size for i, size in enumerate(target)]
    if -1 in shape:
        rest = math.prod(size for size in shape if size != -1)
        shape[shape.index(-1)] = math.prod(source) // rest
    if math.prod(shape) != math.prod(source):
        raise ValueError(f"{source} reshaped to {shape}")
    return [replace(inputs[0], shape=tuple(shape))]


def _expand(node: Node, inputs: _Inputs) -> list[_Tensor]:
    target = _Tensor(shape=tuple(_ints(inputs, 1)), dtype=inputs[0].dtype)
    return _broadcast(node, [inputs[0], target])


def _transpose(node: Node, inputs: _Inputs) -> list[_Tensor]:
    order = node.attributes.get("perm") or tuple(range(len(inputs[0].shape)))[::-1]
    assert isinstance(order, tuple)
    return [replace(inputs[0], shape=tuple(inputs[0].shape[i] for i in order), values=None)]


def _convolution(node: Node, inputs: _Inputs) -> list[_Tensor]:
    kernel = inputs[1].shape[2:] if len(inputs) > 1 else _tuple(node, "kernel_shape", ())
    channels = inputs[1].shape[0] if len(inputs) > 1 else inputs[0].shape[1]
    sides = inputs[0].shape[2:]
    n = len(sides)
    strides, dilations = _tuple(node, "strides", (1,) * n), _tuple(node, "dilations", (1,) * n)
    pads = _tuple(node, "pads", (0,) * 2 * n)
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError("auto_pad")
    out = tuple(
        (sides[i] + pads[i] + pads[n + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in range(n)
    )
    return [replace(inputs[0], shape=(inputs[0].shape[0], channels, *out), values=None)]


def _matmul(_node: Node, inputs: _Inputs) -> list[_Tensor]:
    a, b = inputs[0].shape, inputs[1].shape
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError(f"{a} times {b}")
    rows = _Tensor(shape=(*a[:-2], 1, 1), dtype=inputs[0].dtype)
    batch = _broadcast(_node, [rows, replace(rows, shape=(*b[:-2], 1, 1))])[0].shape[:-2]
    return [replace(inputs[0], shape=(*batch, a[-2], b[-1]), values=None)]


def _gemm(node: Node, inputs: _Inputs) -> list[_Tensor]:
    a = inputs[0].shape[:: -1 if _whole(node, "transA", 0) else 1]
    b = inputs[1].shape[:: -1 if _whole(node, "transB", 0) else 1]
    if a[1] != b[0]:
        raise ValueError(f"{a} times {b}")
    return [replace(inputs[0], shape=(a[0], b[1]), values=None)]


def _attention(_node: Node, inputs: _Inputs) -> list[_Tensor]:
    """Both forms: [batch, heads, tokens, width], and com.microsoft's [batch, tokens, heads times width], whose keys and
    values may come in the first form.
    """
    query, value = inputs[0].shape, inputs[2].shape
    width = value[-1] * (value[1] if len(value) > len(query) else 1)
    return [replace(inputs[0], shape=(*query[:-1], width), values=None)]


def _depth_to_space(node: Node, inputs: _Inputs) -> list[_Tensor]:
    b, c, h, w = inputs[0].shape
    block = _whole(node, "blocksize", 1)
    return [replace(inputs[0], shape=(b, c // block**2, h * block, w * block), values=None)]


def _resize(_node: Node, inputs: _Inputs) -> list[_Tensor]:
    if len(inputs) > 3 and inputs[3].shape != (0,):
        shape = tuple(_ints(inputs, 3))
    else:
        scales = inputs[2].values or ()
        shape = tuple(math.floor(s * f) for s, f in zip(inputs[0].shape, scales, strict=True))
    return [replace(inputs[0], shape=shape, values=None)]


def _whole(node: Node, name: str, default: int) -> int:
    value = node.attributes.get(name, default)
    assert isinstance(value, int)
    return value


def _tuple(node: Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    value = node.attributes.get(name, default)
    assert isinstance(value, tuple)
    return value


def _ints(inputs: _Inputs, index: int) -> list[int]:
    values = inputs[index].values
    if values is None:
        raise ValueError("a shape depends on data")
    return [int(v) for v in values]


def _convolution_flops(inputs: _Inputs, outputs: _Inputs) -> int:
    return 2 * math.prod(outputs[0].shape) * math.prod(inputs[1].shape[1:])


def _product_flops(inputs: _Inputs, outputs: _Inputs) -> int:
    return 2 * math.prod(outputs[0].shape) * inputs[0].shape[-1]


def _gemm_flops(inputs: _Inputs, outputs: _Inputs) -> int:
    """Its first input may be transposed, so that the inner side is its size over the output's rows."""
    return 2 * math.prod(inputs[0].shape) * outputs[0].shape[1]


def _attention_flops(inputs: _Inputs, outputs: _Inputs) -> int:
    return 2 * inputs[1].shape[-2] * (math.prod(inputs[0].shape) + math.prod(outputs[0].shape))


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"), _broadcast),
    **dict.fromkeys(("Sigmoid", "Exp", "Cos", "Sin", "Sqrt", "Erf", "Gelu", "LeakyRelu", "Relu", "Tanh", "Neg"), _same),
    **dict.fromkeys(("Softmax", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "Clip"), _same),
    "Identity": lambda _node, inputs: [inputs[0]],
    "Shape": _shape,
    "Cast": _cast,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Reshape": _reshape,
    "Expand": _expand,
    "Transpose": _transpose,
    "Conv": _convolution,
    "AveragePool": _convolution,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Attention": _attention,
    "com.microsoft:MultiHeadAttention": _attention,
    "DepthToSpace": _depth_to_space,
    "Resize": _resize,
}
_VIEWS = frozenset({"Identity", "Shape", "Squeeze", "Unsqueeze", "Reshape"})
"""They move nothing."""
_FLOPS: dict[str, Callable[[_Inputs, _Inputs], int]] = {
    "Conv": _convolution_flops,
    "MatMul": _product_flops,
    "Gemm": _gemm_flops,
    "Attention": _attention_flops,
    "com.microsoft:MultiHeadAttention": _attention_flops,
}
