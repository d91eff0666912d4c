"""The search on small graphs: what samples miss, faults that rounding cannot explain, and rounding that adds up."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.figures import Gate
from export.verifying.alignment import align
from export.verifying.bisection import find_departure, find_fault
from export.verifying.candidates import Inside
from export.verifying.inspection import Inspection, known
from export.verifying.onnx_graph import OnnxGraph, Place
from export.verifying.reference import OnnxNetwork
from export.verifying.sampling import step_of
from export.verifying.sessions import SessionSettings
from export.verifying.walk import Call

SETTINGS = SessionSettings(threads=1)
GATE = Gate(deviation=1e-4, cosine=0.9999)
SIZE = 10_000
LAYERS = 40


def constant(name, values):
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def chain(folder, changed=None, change=None, *, last_scale=1.0):
    """x -> add_0 -> add_1 ... -> y, each adding a constant of its own; the constant of one layer may be changed."""
    generator = np.random.default_rng(4)
    nodes, constants, value = [], [], "x"
    for layer in range(LAYERS):
        values = generator.standard_normal(SIZE).astype(np.float32)
        if layer == changed:
            values = change(values)
        constants.append(constant(f"layers.{layer}.shift", values))
        nodes.append(helper.make_node("Add", [value, f"layers.{layer}.shift"], [f"add_{layer}"], f"node_add_{layer}"))
        value = f"add_{layer}"
    constants.append(constant("scale", last_scale))
    nodes.append(helper.make_node("Mul", [value, "scale"], ["y"], "node_y"))
    return OnnxGraph(model(nodes, constants, [1, SIZE]), folder)


def model(nodes, constants, shape):
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        initializer=constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def search(right, wrong, shape, find=find_departure):
    network = OnnxNetwork(right, SETTINGS)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    call = Call(graph="test", step=None, timestep=None, inputs={"x": x}, outputs=network.run({"x": x}))
    told = known(call, network)
    inspection = Inspection(call, Inside(graph=wrong, settings=SETTINGS), wrong, told.places, GATE)
    samples = inspection.sample(told.samples)
    return find(inspection, samples, network), samples


@pytest.mark.parametrize("layer", [0, 17, LAYERS - 1])
def test_one_wrong_layer(tmp_path, layer):
    found, _ = search(chain(tmp_path), chain(tmp_path, layer, np.zeros_like), (1, SIZE))
    assert (found.verdict, found.tensor, found.node) == ("tensor", f"add_{layer}", f"node_add_{layer}")
    assert found.module == f"layers.{layer}"
    assert found.compared == LAYERS


@pytest.mark.parametrize("layer", [0, 23])
def test_one_wrong_element_that_no_sample_holds(tmp_path, layer):
    """Samples agree everywhere, so that bisection over marked outputs finds it."""
    assert step_of(SIZE) > 1

    def change(values):
        values[1] += 100
        return values

    found, samples = search(chain(tmp_path), chain(tmp_path, layer, change), (1, SIZE))
    assert all(figures.deviation == 0 for figures in samples.values())
    assert (found.verdict, found.tensor) == ("tensor", f"add_{layer}")
    assert found.runs < 15


def test_the_last_operation_is_wrong(tmp_path):
    found, _ = search(chain(tmp_path), chain(tmp_path, last_scale=1.5), (1, SIZE))
    assert (found.verdict, found.tensor, found.node) == ("tensor", "y", "node_y")
    assert found.inputs == {f"add_{LAYERS - 1}": 0.0}


def test_a_right_graph_has_no_fault(tmp_path):
    found, _ = search(chain(tmp_path), chain(tmp_path), (1, SIZE), find_fault)
    assert found is None


def test_errors_that_add_up_have_no_culprit(tmp_path):
    """Every layer is off by half the gate: none departs by itself."""
    scales = [np.float32(1 + 0.5 * GATE.deviation)] * 8
    found, _ = search(products(tmp_path, [1.0] * 8), products(tmp_path, scales), (1, 64))
    assert found.verdict == "sum"
    assert found.tensor in ("mul_2", "mul_3")
    assert found.figures.deviation > GATE.deviation


def products(folder, scales):
    nodes, constants, value = [], [], "x"
    for i, scale in enumerate(scales):
        constants.append(constant(f"scale_{i}", scale))
        made = "y" if i == len(scales) - 1 else f"mul_{i}"
        nodes.append(helper.make_node("Mul", [value, f"scale_{i}"], [made], f"node_mul_{i}"))
        value = made
    return OnnxGraph(model(nodes, constants, [1, 64]), folder)


def test_what_only_enlarges_rounding_is_passed_over(tmp_path):
    """A difference of nearly equal numbers makes rounding large; the real fault comes later, on another way."""

    def graph(fault):
        nodes = [
            helper.make_node("Mul", ["x", "third"], ["mul_0"]),
            helper.make_node("Mul", ["mul_0", "three"], ["mul_1"]),
            helper.make_node("Sub", ["mul_1", "x"], ["sub"]),  # nothing but rounding
            helper.make_node("Mul", ["x", "weight"], ["mul_2"], "node_mul_2"),
            helper.make_node("Add", ["mul_2", "sub"], ["y"]),
        ]
        third = np.float32(1 / 3) * (1 if fault == 1 else np.float32(1 + 1e-6))
        constants = [constant("third", third), constant("three", 3.0), constant("weight", fault)]
        return OnnxGraph(model(nodes, constants, [1, 64]), tmp_path)

    found, samples = search(graph(1.0), graph(2.0), (1, 64))
    assert samples["sub"].deviation > GATE.deviation
    assert (found.verdict, found.tensor, found.node) == ("tensor", "mul_2", "node_mul_2")


def test_a_value_behind_one_that_hides_it(tmp_path):
    """A tensor times zero shows nothing of its fault; the other way around it does."""

    def graph(factor):
        nodes = [
            helper.make_node("Mul", ["x", "factor"], ["mul_0"], "node_mul_0"),
            helper.make_node("Mul", ["mul_0", "nothing"], ["mul_1"]),
            helper.make_node("Add", ["mul_0", "mul_1"], ["y"]),
        ]
        constants = [constant("factor", factor), constant("nothing", 0.0)]
        return OnnxGraph(model(nodes, constants, [1, 64]), tmp_path)

    found, _ = search(graph(1.0), graph(1.2), (1, 64))
    assert found.tensor == "mul_0"


def test_alignment_goes_by_order_and_weights_and_not_by_numbers():
    ours = [Place(stem="add", name="add_1"), Place(stem="conv2d", parameters=("a.weight",), name="conv2d")]
    ours += [Place(stem="add", name="add_2"), Place(stem="conv2d", parameters=("b.weight",), name="conv2d_1")]
    theirs = [Place(stem="conv2d", parameters=("a.weight",), name="conv2d"), Place(stem="add", name="add_1")]
    theirs += [Place(stem="mul", name="mul"), Place(stem="conv2d", parameters=("b.weight",), name="conv2d_7")]
    assert align(ours, theirs) == {"conv2d": 0, "add_2": 1, "conv2d_1": 3}


def test_types_of_values(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Shape", ["half"], ["shape"]),
        helper.make_node("Reshape", ["half", "shape"], ["view"]),
        helper.make_node("Equal", ["view", "view"], ["equal"]),
        helper.make_node("Where", ["equal", "view", "half"], ["where"]),
        helper.make_node("Cast", ["where"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = OnnxGraph(model(nodes, [], [4]), tmp_path)
    assert graph.results == ["half", "view", "where", "y"]
    assert graph.types["shape"] == TensorProto.INT64
    assert graph.types["where"] == TensorProto.FLOAT16
    onnx.checker.check_model(graph.model)
