"""Islands of float32 in fp16 graphs, computed by ONNX Runtime on the CPU, every fp16 value rounded."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.bundle import open_bundle
from export.figures import compare
from export.lowering.editor import GraphEditor
from export.lowering.tensorrt_islands import around, delicate_values, make_islands, names_of
from export.lowering.widen import widen
from export.samples import random_inputs, sizes
from export.verifying.islands import beyond_range
from export.verifying.onnx_graph import OnnxGraph, load_graph
from export.verifying.rounding import LARGEST, rounded
from export.verifying.sessions import Session, SessionSettings
from runtime.default_bundle import DEMO_BUNDLE
from tests.broken import overflowing

CPU = SessionSettings()


def run(graph, inputs, *, as_fp16=True):
    graph = rounded(graph) if as_fp16 else graph
    return Session(graph.model, graph.folder, CPU).run(inputs)


def in_float32(graph):
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    widen(GraphEditor(model))
    return OnnxGraph(model, graph.folder)


def counted(graph):
    return sum(node.op_type == "Cast" for node in graph.nodes)


def inputs_of(bundle, name):
    return random_inputs(bundle.manifest.graphs[name].spec, sizes(1, 8, 16), seed=2)


@pytest.mark.parametrize("name", ["decode", "denoise"])
def test_an_overflowing_graph_becomes_finite_and_right(tmp_path, name):
    bundle = open_bundle(overflowing(DEMO_BUNDLE, tmp_path / "bundle", name))
    half = load_graph(bundle.path(bundle.manifest.graphs[name].file))
    inputs = inputs_of(bundle, name)
    reference = run(in_float32(half), inputs, as_fp16=False)
    assert not all(np.isfinite(values).all() for values in run(half, inputs).values())

    values = around(half, beyond_range(inputs, half, half.results, CPU, LARGEST))
    assert 0 < len(values) < 12, "few of hundreds"
    made = OnnxGraph(make_islands(half, values), half.folder)
    for output, result in run(made, inputs).items():
        figures = compare(result, reference[output])
        assert figures.deviation < 2e-2
        assert figures.cosine > 0.9999
    written = half.folder / "islands.onnx"
    onnx.save(made.model, written)
    onnx.checker.check_model(str(written), full_check=True)
    assert [v.name for v in made.model.graph.output] == [v.name for v in half.model.graph.output]
    weights = [{t.name: t for t in one.model.graph.initializer} for one in (half, made)]
    assert weights[0] == weights[1], "they stay where they are, as they are"


@pytest.mark.parametrize("name", ["encode", "denoise", "decode"])
def test_norms_and_attention_of_a_sound_graph(name):
    bundle = open_bundle(DEMO_BUNDLE)
    half = load_graph(bundle.path(bundle.manifest.graphs[name].file))
    values = delicate_values(half)
    assert {half.producers[value].op_type for value in values} == {"GroupNormalization", "Attention"} | (
        {"LayerNormalization"} if name == "denoise" else set()
    )
    inputs = inputs_of(bundle, name)
    reference = run(in_float32(half), inputs, as_fp16=False)
    made = OnnxGraph(make_islands(half, values), half.folder)
    for node in made.nodes:
        if node.op_type in ("GroupNormalization", "Attention", "LayerNormalization"):
            kinds = {made.types[value] for value in (*node.input, *node.output)}
            assert kinds == {TensorProto.FLOAT}, f"{node.name} has one type, as TensorRT's parser asks"
    for output, result in run(made, inputs).items():
        assert compare(result, reference[output]).deviation < 2e-2


def test_all_of_a_graph_is_its_float32_form():
    bundle = open_bundle(DEMO_BUNDLE)
    half = load_graph(bundle.path(bundle.manifest.graphs["decode"].file))
    inputs = inputs_of(bundle, "decode")
    made = OnnxGraph(make_islands(half, half.results), half.folder)
    reference = run(in_float32(half), inputs, as_fp16=False)
    assert compare(run(made, inputs, as_fp16=False)["image"], reference["image"]).deviation < 1e-5


def chain(*nodes, constants=()):
    """A model of float32 input x [2,4] and output y, with fp16 between."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
                *nodes,
                helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT),
            ],
            "chain",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            initializer=[numpy_helper.from_array(np.asarray(v), name) for name, v in constants],
        ),
        opset_imports=[helper.make_opsetid("", 23)],
        ir_version=10,
    )
    return OnnxGraph(model, None)


def test_values_pass_among_the_island_without_rounding(tmp_path):
    graph = chain(
        helper.make_node("Mul", ["a", "large"], ["b"], "up"),
        helper.make_node("Identity", ["b"], ["c"], "same"),
        helper.make_node("Mul", ["c", "small"], ["z"], "down"),
        constants=[("large", np.float16(32768)), ("small", np.float16(2**-15))],
    )
    graph.folder = tmp_path
    x = {"x": np.linspace(-9, 9, 8, dtype=np.float32).reshape(2, 4)}
    assert not np.isfinite(run(graph, x)["y"]).all()
    beyond = beyond_range(x, graph, graph.results, CPU)
    assert beyond == ["b", "c"]
    values = around(graph, beyond)
    assert names_of(graph, values) == ["up", "same", "down"]
    made = OnnxGraph(make_islands(graph, values), tmp_path)
    np.testing.assert_array_equal(run(made, x)["y"], np.float16(x["x"]).astype(np.float32))
    assert counted(made) == 6, "in, of two constants, and out; what nobody reads is gone"
    assert graph.model.graph.node[1].input[:] == ["a", "large"], "the graph itself stays"


def test_constants_in_attributes_and_casts_inside(tmp_path):
    graph = chain(
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float16(3), "k")),
        helper.make_node("Cast", ["a"], ["wide_before"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["wide_before"], ["b"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["b", "k"], ["z"]),
    )
    graph.folder = tmp_path
    x = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
    made = OnnxGraph(make_islands(graph, ["k", "wide_before", "b", "z"]), tmp_path)
    np.testing.assert_array_equal(run(made, x, as_fp16=False)["y"], 3 * x["x"])
    assert names_of(graph, ["z"]) == ["z"], "a node without a name is told by its value"


def test_an_attention_that_is_written_out_is_delicate_from_its_scores_on(tmp_path):
    graph = chain(
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["a", "t"], ["scores"], "scores"),
        helper.make_node("Mul", ["scores", "scale"], ["scaled"], "scale"),
        helper.make_node("Softmax", ["scaled"], ["weights"], "softmax"),
        helper.make_node("MatMul", ["weights", "a"], ["z"], "mix"),
        constants=[("scale", np.float16(0.5))],
    )
    assert names_of(graph, delicate_values(graph)) == ["scores", "scale", "softmax"]


def test_what_is_made_of_a_value_is_around_it():
    graph = chain(
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Abs", ["b"], ["c"]),
        helper.make_node("Neg", ["c"], ["z"]),
    )
    assert around(graph, ["b"]) == ["b", "c"]
    assert around(graph, []) == []
