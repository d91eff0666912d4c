"""What TensorRT's ONNX parser takes of operators that it takes in part. In: a node. Out: what is wrong with it.

Source: the column "Restrictions" of docs/operators.md of onnx/onnx-tensorrt (TensorRT 10.15), and the static checks of
its parser for attributes that the column leaves out. Cubic `Resize` passes those checks, but the column does not name
it. Not checked: what a file need not hold (zero points of quantization, lengths of loops), and operators that the
exported graphs are far from (recurrent networks, signals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from engines.onnx_graph import Attribute, Node
from engines.onnx_types import Known


class Problem(NamedTuple):
    """Why a node is refused, and what to write instead."""

    reason: str
    fix: str


Check = Callable[[Node, Known, tuple[int, ...]], Iterator[Problem]]
"""(node, what is known of values, version of TensorRT)."""
_COORDINATES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
_MODES = ("nearest", "linear")
_PAD_MODES = ("constant", "reflect", "edge", "wrap")


def problems(node: Node, known: Known, version: tuple[int, ...]) -> Iterator[Problem]:
    """All that is wrong with a node of an operator that TensorRT takes."""
    for check in _CHECKS.get(node.op, ()):
        yield from check(node, known, version)


def _is(node: Node, name: str, default: Attribute, allowed: tuple[Attribute, ...], fix: str) -> Iterator[Problem]:
    value = node.attributes.get(name, default)
    if value not in allowed:
        yield Problem(f"{name} is {value!r}, TensorRT takes {' or '.join(map(repr, allowed))}", fix)


def _has(names: tuple[str, ...], index: int) -> bool:
    return index < len(names) and bool(names[index])


def _attention(node: Node, known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
    apart = "write it out as MatMul, Softmax and MatMul (export/lowering/tensorrt_10_12.py does)"
    for letter, name in zip("QKV", node.inputs, strict=False):
        if (rank := known.ranks.get(name, 4)) != 4:
            yield Problem(
                f"{letter} has {rank} dimensions, TensorRT takes 4: [batch, heads, tokens, width]",
                "reshape and transpose it in front",
            )
    for index, name in ((4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")):
        if _has(node.inputs, index):
            yield Problem(f"it has {name}, and TensorRT's parser reads no cache of keys and values", apart)
    if any(node.outputs[1:]):
        yield Problem("it has more than one output", "leave out present_key, present_value and qk_matmul_output")
    yield from _is(node, "softcap", 0.0, (0.0,), apart)
    yield from _is(node, "qk_matmul_output_mode", 0, (0,), apart)
    if "softmax_precision" in node.attributes:
        yield Problem("softmax_precision is set, and TensorRT chooses that itself", "leave the attribute out")


def _resize(node: Node, known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
    yield from _is(node, "mode", "nearest", _MODES, "enlarge by nearest or linear, then convolve")
    yield from _is(node, "coordinate_transformation_mode", "half_pixel", _COORDINATES, "use one of these")
    yield from _is(node, "antialias", 0, (0,), "blur with a convolution in front of it")
    yield from _is(node, "keep_aspect_ratio_policy", "stretch", ("stretch",), "give the sizes that result")
    if node.attributes.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        yield from _is(node, "nearest_mode", "round_prefer_floor", ("round_prefer_floor",), "use half_pixel")
    axes, rank = node.attributes.get("axes"), known.ranks.get(node.inputs[0])
    computed = _has(node.inputs, 2) and node.inputs[2] not in known.constants
    if computed and axes is not None and rank is not None and axes != tuple(range(rank)):
        yield Problem(f"axes is {axes} with scales that are computed", "give scales for all axes, in order")


def _group_norm(node: Node, _known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
    """NVIDIA/TensorRT issue 4756, of 10.16.1; a fix (onnx/onnx-tensorrt pull request 1052) was open in May 2026."""
    if node.attributes.get("num_groups") == 1:
        yield Problem(
            "num_groups is 1, and TensorRT then normalizes each channel by itself (NVIDIA/TensorRT issue 4756)",
            "write it as LayerNormalization over channels, rows and columns",
        )


def _pool(node: Node, _known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
    dilations, kernel = (node.attributes.get(name) for name in ("dilations", "kernel_shape"))
    if isinstance(dilations, tuple) and set(dilations) - {1}:
        yield Problem(f"dilations is {dilations}, TensorRT takes ones alone", "pool without dilations")
    if isinstance(kernel, tuple) and len(kernel) not in (2, 3):
        yield Problem(f"it pools over {len(kernel)} axes, TensorRT takes 2 or 3", "reshape in front of it")


def _one_output(node: Node, _known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
    if any(node.outputs[1:]):
        yield Problem("it has more than one output, TensorRT gives the first alone", "leave the others out")


def _constant_input(index: int, name: str) -> Check:
    """That it is no input of the graph. Whether a computed value folds to a constant is TensorRT's to say."""

    def check(node: Node, known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
        if _has(node.inputs, index) and node.inputs[index] in known.inputs - known.constants.keys():
            yield Problem(f"{name} is an input of the graph, TensorRT takes a constant", f"make {name} a constant")

    return check


def _squeeze(node: Node, known: Known, version: tuple[int, ...]) -> Iterator[Problem]:
    """Without axes: release notes of 11.5; before, the parser looks for sides of 1 in a shape that it knows."""
    left_out = not _has(node.inputs, 1) and "axes" not in node.attributes
    source = known.stated.get(node.inputs[0])
    if left_out and version < (11, 5) and source is not None and any(isinstance(side, str) for side in source.shape):
        yield Problem("it names no axes of a shape that is not fixed", "name the axes, or update TensorRT to 11.5")


def _scatter_nd(node: Node, _known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
    yield from _is(node, "reduction", "none", ("none",), "gather, reduce and scatter the result")


def _pad(node: Node, _known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
    yield from _is(node, "mode", "constant", _PAD_MODES, "use one of these")


def _top_k(node: Node, known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
    yield from _is(node, "sorted", 1, (1,), "let it sort")
    count = known.constants.get(node.inputs[1]) if _has(node.inputs, 1) else None
    if count is not None and count.values and max(count.values) >= 3840:
        yield Problem(f"K is {count.values[0]:g}, TensorRT takes less than 3840", "sort in parts")


def _grid_sample(node: Node, known: Known, version: tuple[int, ...]) -> Iterator[Problem]:
    most = (4, 5) if version >= (11, 2) else (4,)
    rank = known.ranks.get(node.inputs[0])
    if rank is not None and rank not in most:
        yield Problem(f"its input has {rank} dimensions, TensorRT takes {' or '.join(map(str, most))}", "reshape it")


def _constant(node: Node, _known: Known, _version: tuple[int, ...]) -> Iterator[Problem]:
    for name in ("sparse_value", "value_string", "value_strings"):
        if name in node.attributes:
            yield Problem(f"it holds a {name}", "hold numbers, and all of them")


_REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
_CHECKS: Mapping[str, tuple[Check, ...]] = {
    "Attention": (_attention,),
    "AveragePool": (_pool,),
    "BatchNormalization": (_one_output,),
    "Constant": (_constant,),
    "CumSum": (_constant_input(1, "axis"),),
    "GridSample": (_grid_sample,),
    "GroupNormalization": (_group_norm,),
    "LayerNormalization": (_one_output,),
    "LpPool": (_pool,),
    "MaxPool": (_pool, _one_output),
    "OneHot": (_constant_input(1, "depth"),),
    "Pad": (_pad,),
    "Resize": (_resize,),
    "ScatterND": (_scatter_nd,),
    "Squeeze": (_squeeze, _constant_input(1, "axes")),
    "TopK": (_top_k,),
    "Unsqueeze": (_constant_input(1, "axes"),),
    **{f"Reduce{name}": (_constant_input(1, "axes"),) for name in _REDUCTIONS},
}
