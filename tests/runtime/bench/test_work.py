"""Counted arithmetic and bytes against counts by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import BundleSchemaError
from runtime.bench.work import Work, WorkError, graph_work
from tests.tiny import write_tiny_bundle

SIZES = {"B": 1, "H": 8, "W": 16, "h": 16, "w": 32}


def model(folder, nodes, inputs, constants=(), output="y", opset=23):
    """A file of these nodes; inputs and constants by name."""
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(array, name) for name, array in dict(constants).items()],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains), path)
    return path


def zeros(*shape):
    return np.zeros(shape, np.float32)


def test_convolution(tmp_path):
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[0, 0, 1, 1], strides=[2, 2], kernel_shape=[3, 3])
    path = model(tmp_path, [node], {"x": ["B", 3, "8*H", "8*W"]}, {"w": zeros(5, 3, 3, 3), "b": zeros(5)})
    out, image, weights = 5 * 32 * 64, 3 * 64 * 128, 5 * 27 + 5
    expected = Work(
        flops=2 * out * 27, least_bytes=4 * (out + image + weights), unfused_bytes=4 * (out + image + weights)
    )
    assert graph_work(path, SIZES) == expected


def test_grouped_and_dilated_convolution(tmp_path):
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4, dilations=[2, 2], pads=[2, 2, 2, 2])
    path = model(tmp_path, [node], {"x": [1, 8, 10, 12]}, {"w": zeros(8, 2, 3, 3)})
    assert graph_work(path, {}).flops == 2 * (8 * 10 * 12) * (2 * 9)


@pytest.mark.parametrize(
    ("a", "b", "flops"),
    [((7, 3), (3, 5), 2 * 7 * 3 * 5), ((2, 4, 7, 3), (3, 5), 2 * 8 * 105), ((2, 1, 7, 3), (4, 3, 5), 2 * 8 * 105)],
)
def test_matrix_product(tmp_path, a, b, flops):
    path = model(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": a}, {"w": zeros(*b)})
    assert graph_work(path, {}).flops == flops


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(tmp_path, transposed):
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transA=transposed, transB=1 - transposed)
    shape, weights = ((3, 7), (3, 5)) if transposed else ((7, 3), (5, 3))
    path = model(tmp_path, [node], {"x": shape}, {"w": zeros(*weights), "b": zeros(5)})
    assert graph_work(path, {}).flops == 2 * 7 * 3 * 5


def test_attention_of_opset_23(tmp_path):
    """6 queries, 10 keys, 2 heads of 8 (values of 4): products of 8 and of 4 for each pair."""
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"])
    path = model(tmp_path, [node], {"q": [1, 2, 6, 8], "k": [1, 2, 10, 8], "v": [1, 2, 10, 4]})
    assert graph_work(path, {}).flops == 2 * 2 * 6 * 10 * (8 + 4)


@pytest.mark.parametrize("rank", [3, 4])
def test_attention_of_onnxruntime(tmp_path, rank):
    keys = [1, 10, 16] if rank == 3 else [1, 2, 10, 8]
    node = helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["y"], domain="com.microsoft", num_heads=2)
    path = model(tmp_path, [node], {"q": [1, 6, 16], "k": keys, "v": keys})
    assert graph_work(path, {}).flops == 2 * 6 * 10 * 32


def test_shapes_that_are_computed(tmp_path):
    """[B, 4, H, W] to [B, H*W, 4] by way of Shape, Squeeze, Mul and Concat, then a product with weights."""
    nodes = [
        *(helper.make_node("Shape", ["x"], [f"s{i}"], start=i, end=i + 1) for i in (0, 2, 3)),
        helper.make_node("Mul", ["s2", "s3"], ["pixels"]),
        helper.make_node("Concat", ["s0", "pixels", "four"], ["target"], axis=0),
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "target"], ["tokens"]),
        helper.make_node("MatMul", ["tokens", "w"], ["y"]),
    ]
    constants = {"four": np.array([4], np.int64), "w": zeros(4, 6)}
    path = model(tmp_path, nodes, {"x": ["B", 4, "H", "W"]}, constants)
    assert graph_work(path, SIZES).flops == 2 * 8 * 16 * 4 * 6


def test_whole_numbers_divide_as_in_c(tmp_path):
    """(H - 1) / 2 + 1 of a downsampling: 8 gives 4, not 4.5."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=2, end=3),
        helper.make_node("Sub", ["s", "one"], ["less"]),
        helper.make_node("Div", ["less", "two"], ["half"]),
        helper.make_node("Add", ["half", "one"], ["side"]),
        helper.make_node("Concat", ["side", "minus"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    numbers = {"one": 1, "two": 2, "minus": -1}
    constants = {name: np.array([n], np.int64) for name, n in numbers.items()} | {"w": zeros(32, 1)}
    path = model(tmp_path, nodes, {"x": [1, 1, "H", "W"]}, constants)
    assert graph_work(path, SIZES).flops == 2 * 4 * 32


def test_what_only_weights_are_computed_with_is_free_and_counts_as_weights(tmp_path):
    """Half weights that are widened: backends fold the Cast, and read floats."""
    nodes = [helper.make_node("Cast", ["w"], ["wide"], to=1), helper.make_node("MatMul", ["x", "wide"], ["y"])]
    path = model(tmp_path, nodes, {"x": [2, 3]}, {"w": np.zeros((3, 5), np.float16)})
    assert graph_work(path, {}) == Work(flops=60, least_bytes=4 * (6 + 15 + 10), unfused_bytes=4 * (6 + 15 + 10))


def test_views_move_nothing_and_elementwise_does(tmp_path):
    nodes = [
        helper.make_node("Unsqueeze", ["x", "first"], ["view"]),
        helper.make_node("Squeeze", ["view", "first"], ["back"]),
        helper.make_node("Add", ["back", "row"], ["y"]),
    ]
    path = model(tmp_path, nodes, {"x": [6, 4]}, {"first": np.array([0], np.int64), "row": zeros(4)})
    assert graph_work(path, {}) == Work(flops=0, least_bytes=4 * (24 + 4 + 24), unfused_bytes=4 * (24 + 4 + 24))


def test_split_resize_depth_to_space_and_expand(tmp_path):
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Split", ["large"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("DepthToSpace", ["a"], ["deep"], blocksize=2),
        helper.make_node("Expand", ["deep", "shape"], ["wide"]),
        helper.make_node("Conv", ["wide", "w"], ["y"]),
    ]
    constants = {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "shape": np.array([3, 1, 1, 1], np.int64),
        "w": zeros(1, 1, 1, 1),
    }
    path = model(tmp_path, nodes, {"x": [1, 8, 3, 5]}, constants)
    assert graph_work(path, {}).flops == 2 * 3 * 12 * 20


def test_two_works_add_up():
    a, b = (Work(flops=n, least_bytes=2 * n, unfused_bytes=3 * n) for n in (1, 10))
    assert a + b == Work(flops=11, least_bytes=22, unfused_bytes=33)


def test_an_operator_that_is_not_known_is_named(tmp_path):
    path = model(tmp_path, [helper.make_node("Det", ["x"], ["y"])], {"x": [1, 2, 2]})
    with pytest.raises(WorkError, match="operator Det is not known"):
        graph_work(path, {})


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("MatMul", ["x", "x"], ["y"]),
        helper.make_node("Reshape", ["x", "x"], ["y"]),
        helper.make_node("Conv", ["x", "none"], ["y"]),
        helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2], auto_pad="SAME_UPPER"),
    ],
)
def test_shapes_that_cannot_be_followed_are_an_error(tmp_path, node):
    path = model(tmp_path, [node], {"x": [1, 2, 3]})
    with pytest.raises(WorkError, match="cannot be followed"):
        graph_work(path, {})


def test_what_is_no_model(tmp_path):
    (tmp_path / "model.onnx").write_text("text")
    with pytest.raises(BundleSchemaError):
        graph_work(tmp_path / "model.onnx", {})


def test_every_tiny_graph_is_counted(tmp_path):
    bundle = write_tiny_bundle(tmp_path, separate_condition=True)
    works = {path.parent.name: graph_work(path, SIZES) for path in bundle.glob("onnx/*/model.onnx")}
    assert works["decode"].flops == 2 * 3 * 4 * 8 * 16
    assert works["encode"].flops == 2 * 4 * 3 * 8 * 16
    assert works["preprocess"].flops == works["denoise"].flops == 0
