"""fp16 as a device computes it: rounded after every operator, beyond its range infinite, in an island not at all."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.bundle import Precision
from export.figures import GATES
from export.verifying.islands import find_islands
from export.verifying.onnx_graph import OnnxGraph, load_graph
from export.verifying.rounding import LARGEST, rounded
from export.verifying.sessions import Session, SessionSettings
from export.verifying.walk import Call

SETTINGS = SessionSettings(threads=1)


def half(name, values):
    return numpy_helper.from_array(np.asarray(values, np.float16), name)


def graph(folder, nodes, constants):
    nodes = [
        helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16),
        *nodes,
        helper.make_node("Cast", ["last"], ["y"], to=TensorProto.FLOAT),
    ]
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        initializer=constants,
    )
    return OnnxGraph(helper.make_model(made, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), folder)


def overflowing(folder):
    """x (60000 / 60000) + 1, the product beyond fp16."""
    nodes = [
        helper.make_node("Mul", ["x16", "large"], ["scaled"], "node_scaled"),
        helper.make_node("Relu", ["scaled"], ["kept"], "node_kept"),
        helper.make_node("Mul", ["kept", "small"], ["back"], "node_back"),
        helper.make_node("Add", ["back", "one"], ["last"], "node_last"),
    ]
    return graph(folder, nodes, [half("large", 60000), half("small", 1 / 60000), half("one", 1)])


X = np.array([0.1, 1.0, 2.0, 1234.567], np.float32)


def run(one, x=X):
    return Session(one.model, one.folder, SETTINGS).run({"x": x})["y"]


def test_every_result_is_rounded(tmp_path):
    nodes = [
        helper.make_node("Mul", ["x16", "third"], ["mul"]),
        helper.make_node("Exp", ["small"], ["exp"]),
        helper.make_node("Add", ["mul", "exp"], ["last"]),
    ]
    one = graph(tmp_path, nodes, [half("third", 1 / 3), half("small", 0.3)])
    expected = X.astype(np.float16).astype(np.float32) * np.float32(np.float16(1 / 3))
    expected = expected.astype(np.float16).astype(np.float32)
    expected = expected + np.exp(np.float32(np.float16(0.3))).astype(np.float16).astype(np.float32)
    assert np.array_equal(run(rounded(one)), expected.astype(np.float16).astype(np.float32))


def test_what_onnx_runtime_computes_on_a_cpu_passes_over_the_range(tmp_path):
    """The reason for this module."""
    assert np.isfinite(run(overflowing(tmp_path))).all()


def test_beyond_the_range_is_infinite(tmp_path):
    found = run(rounded(overflowing(tmp_path)))
    assert np.isinf(found).tolist() == [False, False, True, True]


def test_an_island_is_not_rounded(tmp_path):
    found = run(rounded(overflowing(tmp_path), {"scaled", "kept", "back"}))
    assert np.allclose(found, X + 1, rtol=4e-3)
    assert np.array_equal(found, found.astype(np.float16).astype(np.float32))  # but what leaves it is


def test_an_island_that_ends_too_early_overflows_where_it_is_left(tmp_path):
    assert np.isinf(run(rounded(overflowing(tmp_path), {"scaled"}))).any()


def test_a_graph_without_fp16_stays(mini_bundle):
    one = load_graph(mini_bundle / "onnx/decode/model.onnx")
    assert rounded(one) is one


def test_islands_are_found_and_made_small(tmp_path):
    one = overflowing(tmp_path)
    call = Call(graph="test", step=None, timestep=None, inputs={"x": X}, outputs={"y": X + 1})
    found = find_islands(call, one, "scaled", GATES[Precision.FP16], SETTINGS)
    assert found.smallest is not None
    assert set(found.nodes) == {"node_scaled", "node_kept", "node_back"}
    assert found.smallest.size == 3
    assert found.beyond == 2
    assert found.tried[0].label == "the whole graph"
    assert all(island.size >= found.smallest.size for island in found.tried if island.mends)


def test_no_island_mends_what_is_wrong_in_float32_too(tmp_path):
    call = Call(graph="test", step=None, timestep=None, inputs={"x": X}, outputs={"y": 2 * X + 1})
    found = find_islands(call, overflowing(tmp_path), "scaled", GATES[Precision.FP16], SETTINGS)
    assert found.smallest is None
    assert len(found.tried) == 1


@pytest.mark.parametrize("name", ["preprocess", "encode", "denoise", "decode"])
def test_weights_are_widened_and_nothing_else_is_left_of_fp16(mini_bundle_fp16, name):
    one = rounded(load_graph(mini_bundle_fp16 / f"onnx/{name}/model.onnx"))
    casts = {n.op_type for n in one.nodes if TensorProto.FLOAT16 in [one.types[value] for value in n.output]}
    assert casts == {"Cast"}  # the rounding itself
    assert float(np.finfo(np.float16).max) == LARGEST
