"""Each rewrite for the CPU provider: the canonical graph's numbers, and nothing rewritten that only resembles."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.lowering.attention import fuse_attention
from export.lowering.editor import GraphEditor
from export.lowering.group_norm import split_group_norm
from export.lowering.onnxruntime_cpu import LOWERED, lower
from export.lowering.upsample import split_upsampling
from export.lowering.widen import widen

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(nodes, constants, x_shape, *, outputs=("y",), dtype=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", dtype, x_shape)],
        [helper.make_tensor_value_info(name, dtype, [None] * len(x_shape)) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def run(model, x):
    session = onnxruntime.InferenceSession(
        model if isinstance(model, str) else model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})


def operators(model):
    return [node.op_type for node in model.graph.node]


def rewritten(model, rewrite):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    rewrite(GraphEditor(changed))
    onnx.checker.check_model(changed)
    return changed


@pytest.mark.parametrize("shape", [(1, 8, 5, 7), (3, 8, 1, 1), (2, 8, 16, 16)])
@pytest.mark.parametrize(("groups", "epsilon"), [(2, 1e-5), (8, 1e-6), (1, 1e-6)])
def test_group_norm(shape, groups, epsilon):
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=groups, epsilon=epsilon)
    model = model_of([node], {"s": normal(8), "b": normal(8)}, ["B", 8, "H", "W"])
    changed = rewritten(model, split_group_norm)
    assert "InstanceNormalization" in operators(changed)
    assert "GroupNormalization" not in operators(changed)
    x = 2e-3 * normal(*shape) + 0.01  # small spread: a wrong epsilon would show
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], atol=2e-5)


def upsampling(**changes):
    settings = {"kernel": 3, "pads": [1, 1, 1, 1], "scales": [1, 1, 2, 2], "mode": "nearest", "outputs": ("y",)}
    settings |= changes
    resize = helper.make_node(
        "Resize", ["x", "", "scales"], ["large"], mode=settings["mode"], nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    side = settings["kernel"]
    convolution = helper.make_node("Conv", ["large", "w", "b"], ["y"], kernel_shape=[side, side], pads=settings["pads"])
    constants = {"scales": np.array(settings["scales"], np.float32), "w": normal(6, 4, side, side), "b": normal(6)}
    return model_of([resize, convolution], constants, ["B", 4, "H", "W"], outputs=settings["outputs"])


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 4, 5, 3), (1, 4, 16, 8)])
def test_upsampling(shape):
    model = upsampling()
    changed = rewritten(model, split_upsampling)
    assert operators(changed).count("Conv") == 4
    assert "Resize" not in operators(changed)
    x = normal(*shape)
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], atol=2e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": 1, "pads": [0, 0, 0, 0]},
        {"pads": [0, 0, 0, 0]},
        {"scales": [1, 1, 2, 3]},
        {"mode": "linear"},
        {"outputs": ("y", "large")},
    ],
)
def test_what_only_resembles_upsampling_stays(changes):
    model = upsampling(**changes)
    assert rewritten(model, split_upsampling) == model


def attention(**changes):
    settings = {"heads": 2, "perm": [0, 2, 1, 3], "causal": 0} | changes
    heads = settings["heads"]
    split = helper.make_node("Reshape", ["x", "split"], ["parts"])
    swap = helper.make_node("Transpose", ["parts"], ["q"], perm=settings["perm"])
    attend = helper.make_node("Attention", ["q", "q", "q"], ["a"], "attend", is_causal=settings["causal"])
    back = helper.make_node("Transpose", ["a"], ["t"], perm=settings["perm"])
    join = helper.make_node("Reshape", ["t", "join"], ["y"])
    constants = {"split": np.array([0, -1, heads, 8 // heads]), "join": np.array([0, -1, 8])}
    return model_of([split, swap, attend, back, join], constants, ["B", "N", 8])


def test_attention():
    model = attention()
    changed = rewritten(model, fuse_attention)
    assert operators(changed) == ["MultiHeadAttention"]
    x = normal(2, 9, 8)
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], atol=1e-5)


@pytest.mark.parametrize("changes", [{"causal": 1}, {"perm": [0, 2, 3, 1]}])
def test_attention_of_an_unknown_form(changes):
    with pytest.raises(ExportError, match="cannot lower the attention node attend"):
        rewritten(attention(**changes), fuse_attention)


def test_attention_with_an_unknown_number_of_heads():
    model = attention()
    split = next(tensor for tensor in model.graph.initializer if tensor.name == "split")
    model.graph.initializer.remove(split)
    model.graph.input.append(helper.make_tensor_value_info("split", TensorProto.INT64, [4]))
    with pytest.raises(ExportError, match="has no known number of heads"):
        rewritten(model, fuse_attention)


def test_fp16_is_computed_in_float32(tmp_path):
    weight = (normal(64, 64) / 8).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["half", "w"], ["product"]),
        helper.make_node("Mul", ["product", "small"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["y"], to=TensorProto.FLOAT),
    ]
    model = model_of(nodes, {"w": weight, "small": np.float16(0.125)}, ["N", 64])
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=1024)
    lowered = lower(path)
    assert lowered == tmp_path / LOWERED
    assert lowered.stat().st_size < 2000  # the weights are still those of the canonical file
    x = normal(5, 64)
    exact = x @ weight.astype(np.float32) / 8
    np.testing.assert_allclose(run(str(lowered), x)[0], exact, atol=1e-5)
    assert "Cast" in operators(onnx.load(lowered, load_external_data=False))


def test_float32_is_not_widened():
    model = upsampling()
    assert rewritten(model, widen) == model
