"""The reader of ONNX files against the onnx package."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import BundleSchemaError
from engines.onnx_graph import read_graph, read_model
from engines.protobuf import fields, packed, varint
from runtime.default_bundle import DEMO_BUNDLE
from tests.tiny import write_tiny_bundle


def test_a_model_with_everything_that_is_read(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w", ""], ["c"], pads=[1, 1, 1, 1], group=1, auto_pad="NOTSET"),
        helper.make_node("Gelu", ["c"], ["y"], domain="com.microsoft"),
        helper.make_node("LeakyRelu", ["y"], ["z"], alpha=0.25),
        helper.make_node("Squeeze", ["z", "minus"], ["q"]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float16), "w"),
        numpy_helper.from_array(np.array([-1, 3], np.int64), "minus"),
        helper.make_tensor("typed", TensorProto.INT64, [2], [-7, 1 << 40]),
        helper.make_tensor("floats", TensorProto.FLOAT, [2], [1.5, -2.0]),
        numpy_helper.from_array(np.array(3, np.int32), "scalar"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["B", 3, "8*H", 5])],
        [helper.make_tensor_value_info("q", TensorProto.FLOAT16, None)],
        initializer=constants,
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    read = read_graph(tmp_path / "model.onnx")
    assert [node.op for node in read.nodes] == ["Conv", "com.microsoft:Gelu", "LeakyRelu", "Squeeze"]
    assert read.nodes[0].inputs == ("x", "w", "")
    assert read.nodes[0].attributes == {"pads": (1, 1, 1, 1), "group": 1, "auto_pad": "NOTSET"}
    assert read.nodes[2].attributes == {"alpha": 0.25}
    assert (read.constants["w"].shape, read.constants["w"].dtype, read.constants["w"].values) == (
        (8, 3, 3, 3),
        10,
        None,
    )
    values = {name: info.values for name, info in read.constants.items() if info.values is not None}
    assert values == {"minus": (-1, 3), "typed": (-7, 1 << 40), "floats": (1.5, -2.0), "scalar": (3,)}
    assert read.inputs["x"].shape == ("B", 3, "8*H", 5)
    assert read.inputs["x"].dtype == TensorProto.FLOAT16
    assert read.outputs == ("q",)


def test_names_versions_functions_and_subgraphs(tmp_path):
    value = helper.make_tensor_value_info
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "b", [], [value("n", TensorProto.FLOAT, None)])
    nodes = [
        helper.make_node("Constant", [], ["k"], "five", value=numpy_helper.from_array(np.float32([5]))),
        helper.make_node("If", ["c"], ["i"], "choice", then_branch=branch, else_branch=branch),
        helper.make_node("Mine", ["i"], ["y"], domain="local"),
    ]
    function = helper.make_function(
        "local", "Mine", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"], "inner")], [helper.make_opsetid("", 20)]
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [2]), value("c", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, [2])],
        value_info=[value("i", TensorProto.FLOAT, ["N"])],
    )
    opsets = [helper.make_opsetid("ai.onnx", 20), helper.make_opsetid("local", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[function]), tmp_path / "model.onnx")
    read = read_model(tmp_path / "model.onnx")
    assert read.opsets == {"": 20, "local": 3}
    assert [node.name for node in read.graph.nodes] == ["five", "choice", ""]
    assert read.graph.nodes[0].attributes["value"].values == (5.0,)
    assert [part.nodes[0].op for part in read.graph.nodes[1].subgraphs] == ["Neg", "Neg"]
    assert [node.name for node in read.functions[read.graph.nodes[2].op]] == ["inner"]
    assert read.graph.values["i"].shape == ("N",)
    assert read.graph.values["y"].dtype == TensorProto.FLOAT


def files(folder):
    return sorted(folder.glob("onnx/*/*.onnx"))


def same_as_onnx(path):
    read, model = read_graph(path), onnx.load(path, load_external_data=False)
    assert [(n.op.rpartition(":")[2], n.inputs, n.outputs) for n in read.nodes] == [
        (n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node
    ]
    assert {name: info.shape for name, info in read.constants.items()} == {
        tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer
    }
    assert list(read.inputs) == [value.name for value in model.graph.input]


def test_tiny_graphs(tmp_path):
    for path in files(write_tiny_bundle(tmp_path)):
        same_as_onnx(path)


def test_exported_graphs(mini_bundle):
    for path in files(mini_bundle):
        same_as_onnx(path)


def test_demo_graphs():
    for path in files(DEMO_BUNDLE):
        same_as_onnx(path)


@pytest.mark.parametrize("content", [b"not a model", b"\x3a\x80", b"\xff" * 20, b""])
def test_what_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleSchemaError, match=r"model\.onnx (is not a readable|holds no graph)"):
        read_graph(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BundleSchemaError, match="export the bundle again"):
        read_graph(tmp_path / "none.onnx")


def test_wire_format():
    message = memoryview(bytes([0x08, 0x96, 0x01, 0x15, 1, 2, 3, 4, 0x1A, 2, 0x01, 0x7F]))
    found = list(fields(message))
    assert [(n, bytes(v) if isinstance(v, memoryview) else v) for n, v in found] == [
        (1, 150),
        (2, bytes([1, 2, 3, 4])),
        (3, bytes([1, 127])),
    ]
    assert packed(found[2][1]) == [1, 127]
    assert packed((1 << 64) - 5) == [-5]
    with pytest.raises(ValueError, match="too long"):
        varint(memoryview(b"\xff" * 11), 0)
    with pytest.raises(ValueError, match="wire type"):
        list(fields(memoryview(b"\x0b")))
