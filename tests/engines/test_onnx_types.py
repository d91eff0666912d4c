"""Types and ranks that follow from a file's statements."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.onnx_graph import read_graph
from engines.onnx_types import known_values
from runtime.default_bundle import DEMO_BUNDLE

FLOAT, HALF, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL


def known(tmp_path, nodes, constants=(), stated=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", HALF, ["B", 4, 8])],
        [helper.make_tensor_value_info("y", 0, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
        value_info=stated,
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    return known_values(read_graph(tmp_path / "model.onnx"))


def node(op, inputs, *outputs, **attributes):
    return helper.make_node(op, inputs, outputs, **attributes)


def test_types(tmp_path):
    nodes = [
        node("Shape", ["x"], "shape"),
        node("Concat", ["shape", "one"], "longer", axis=0),
        node("Cast", ["x"], "wide", to=FLOAT),
        node("Split", ["wide"], "left", "right", num_outputs=2),
        node("Greater", ["left", "right"], "larger"),
        node("Where", ["larger", "left", "right"], "chosen"),
        node("Constant", [], "zero", value=numpy_helper.from_array(np.float16([0]))),
        node("ConstantOfShape", ["shape"], "zeros"),
        node("TopK", ["x", "one"], "best", "places"),
        node("MaxPool", ["x"], "pooled", "indices", kernel_shape=[2]),
        node("RandomNormalLike", ["x"], "noise", dtype=FLOAT),
        node("Mine", ["x"], "mine", domain="local"),
        node("Relu", ["mine"], "behind"),
    ]
    found = known(tmp_path, nodes, [("one", np.int64([1]))]).dtypes
    expected = dict.fromkeys(("shape", "longer", "one", "places", "indices"), INT64)
    expected |= dict.fromkeys(("wide", "left", "right", "chosen", "zeros"), FLOAT)
    expected |= dict.fromkeys(("x", "zero", "best", "pooled"), HALF) | {"larger": BOOL}
    assert found == expected


def test_what_the_file_states_counts(tmp_path):
    stated = [helper.make_tensor_value_info("mine", FLOAT, ["N"])]
    found = known(tmp_path, [node("Mine", ["x"], "mine", domain="local"), node("Relu", ["mine"], "y")], stated=stated)
    assert (found.dtypes["y"], found.ranks["y"]) == (FLOAT, 1)


def test_ranks(tmp_path):
    nodes = [
        node("Reshape", ["x", "target"], "parts"),
        node("Transpose", ["parts"], "heads", perm=[0, 2, 1, 3]),
        node("Cast", ["heads"], "cast", to=FLOAT),
        node("Unsqueeze", ["x", "axes"], "more"),
        node("MatMul", ["x", "x"], "product"),
        node("Unsqueeze", ["product", "axes"], "unknown"),
    ]
    found = known(tmp_path, nodes, [("target", np.int64([0, 4, 2, 4])), ("axes", np.int64([0, 1]))]).ranks
    assert {name: found.get(name) for name in ("parts", "heads", "cast", "more", "product", "unknown")} == {
        "parts": 4, "heads": 4, "cast": 4, "more": 5, "product": None, "unknown": None,
    }  # fmt: skip


def test_every_type_of_the_demo_follows():
    for path in DEMO_BUNDLE.glob("onnx/*/model*.onnx"):
        graph = read_graph(path)
        made = {name for node in graph.nodes if ":" not in node.op for name in node.outputs if name}
        if "onnxruntime" not in path.name:
            assert made <= known_values(graph).dtypes.keys()
