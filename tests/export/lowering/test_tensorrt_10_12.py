"""Attention written out for TensorRT before 10.14: the same numbers, and in half precision no infinity on the way."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.lowering.editor import GraphEditor
from export.lowering.tensorrt_10_12 import OPSET, lower, lower_opset, write_out_attention

HEADS, WIDTH = 2, 16
RNG = np.random.default_rng(0)


def model_of(nodes, constants, shape, dtype=TensorProto.FLOAT, rank=4):
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, [None] * rank)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def self_attention(dtype=np.float32, **attributes):
    """As the UNet's: [B,N,C] taken apart into heads."""
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["same"]),
        helper.make_node("Reshape", ["same", "split"], ["parts"]),
        helper.make_node("Transpose", ["parts"], ["q"], perm=[0, 2, 1, 3]),
        helper.make_node("Attention", ["q", "q", "q"], ["y"], "attend", **attributes),
    ]
    constants = {"one": dtype(1), "split": np.array([0, -1, HEADS, WIDTH])}
    return model_of(nodes, constants, ["B", "N", HEADS * WIDTH], helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def prompt_attention():
    """Keys and values are the prompt's constants, repeated for the batch."""
    nodes = [
        helper.make_node("Shape", ["x"], ["batch"], end=1),
        helper.make_node("Concat", ["batch", "ones"], ["shape"], axis=0),
        helper.make_node("Expand", ["keys", "shape"], ["k"]),
        helper.make_node("Attention", ["x", "k", "k"], ["y"], "attend"),
    ]
    keys = RNG.standard_normal((1, HEADS, 7, WIDTH)).astype(np.float32)
    return model_of(nodes, {"keys": keys, "ones": np.array([1, 1, 1])}, ["B", HEADS, "N", WIDTH])


def one_head():
    """As the autoencoder's: one head as wide as a product with a bias makes it."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["tokens"]),
        helper.make_node("Unsqueeze", ["tokens", "axis"], ["q"]),
        helper.make_node("Attention", ["q", "q", "q"], ["y"], "attend"),
    ]
    weight = RNG.standard_normal((WIDTH, WIDTH)).astype(np.float32)
    constants = {"w": weight, "b": np.ones(WIDTH, np.float32), "axis": np.array([1])}
    return model_of(nodes, constants, ["B", "N", WIDTH])


def rewritten(model):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    editor = GraphEditor(changed)
    write_out_attention(editor)
    lower_opset(editor)
    onnx.checker.check_model(changed)
    return changed


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (self_attention(), (2, 9, HEADS * WIDTH)),
        (self_attention(scale=0.5), (2, 9, HEADS * WIDTH)),
        (prompt_attention(), (2, HEADS, 5, WIDTH)),
        (one_head(), (1, 11, WIDTH)),
    ],
)
def test_attention(model, shape):
    changed = rewritten(model)
    assert changed.opset_import[0].version == OPSET
    operators = [node.op_type for node in changed.graph.node]
    assert operators[-4:] == ["Transpose", "MatMul", "Softmax", "MatMul"]
    assert "Attention" not in operators
    x = RNG.standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(run(changed, x), run(model, x), atol=1e-5)


def test_logits_stay_within_half_precision():
    """Queries whose product as they are, 16 * 80 * 80, is beyond 65,504: scaled before it, it is a fourth of that."""
    model = rewritten(self_attention(np.float16))
    model.graph.output.append(helper.make_tensor_value_info("y.logits", TensorProto.FLOAT16, [None] * 4))
    x = np.full((1, 3, HEADS * WIDTH), 80, np.float16)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result, logits = session.run(None, {"x": x})
    assert float(np.finfo(np.float16).max) < 80 * 80 * WIDTH
    np.testing.assert_allclose(logits.astype(np.float32), 80 * 80 * WIDTH / WIDTH**0.5, rtol=2e-3)
    np.testing.assert_allclose(result.astype(np.float32), 80, rtol=2e-3)


@pytest.mark.parametrize("attributes", [{"is_causal": 1}, {"softcap": 30.0}, {"softmax_precision": TensorProto.FLOAT}])
def test_attention_of_an_unknown_form(attributes):
    with pytest.raises(ExportError, match=r"cannot lower the attention node attend for TensorRT before 10\.14"):
        rewritten(self_attention(**attributes))


def test_attention_of_an_unknown_width():
    node = helper.make_node("Attention", ["x", "x", "x"], ["y"], "attend")
    with pytest.raises(ExportError, match="cannot lower the attention node attend"):
        rewritten(model_of([node], {}, ["B", HEADS, "N", WIDTH]))


def test_graphs_without_attention_only_state_another_opset(tmp_path):
    path = tmp_path / "model.onnx"
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {}, ["B", 3], rank=2)
    onnx.save(model, path)
    lowered = onnx.load(lower(path))
    assert lowered.opset_import[0].version == OPSET
    assert list(lowered.graph.node) == list(model.graph.node)
    onnx.save(lowered, path)
    assert lower(path) is None
