"""What TensorRT's parser takes: each kind of finding, by node and fix, and no finding in any exported graph."""

import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.bundle import open_bundle
from engines.errors import BundleSchemaError, EngineBuildError, SettingsError
from engines.onnx_graph import read_graph
from engines.trt_operator_table import HIGHEST_OPSET, OPERATORS
from engines.trt_operators import LATEST, require_supported, unsupported
from engines.trt_plans import onnx_file
from runtime.default_bundle import DEMO_BUNDLE
from tests.parity.exporting import DEMO, E2E_MINI, exported_bundle

FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
INT64, UINT8, BOOL = TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL


def write(path, nodes, inputs, constants=None, *, opset=23, functions=(), domains=()):
    """A model of the nodes; `inputs` are name: (type, shape), `constants` name: array. Gives the path."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info(nodes[-1].output[0], 0, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10), path)
    return path


def node(op, inputs, output="y", **attributes):
    return helper.make_node(op, inputs, [output], f"the_{op}", **attributes)


def image(dtype=FLOAT):
    return {"x": (dtype, ["B", 8, "H", "W"])}


def qkv(*shape, dtype=HALF):
    return {letter: (dtype, list(shape)) for letter in "qkv"}


def attention(**attributes):
    return [node("Attention", ["q", "k", "v"], **attributes)], qkv("B", 2, "N", 32)


def resize(**attributes):
    scales = {"scales": np.float32([1, 1, 2, 2])}
    return [node("Resize", ["x", "", "scales"], **attributes)], image(), scales


def reduction():
    return [node("ReduceMean", ["x", "axes"])], image() | {"axes": (INT64, [1])}


FINDINGS = {
    "unknown operator": (([node("Det", ["x"])], image()), "does not know the operator", "export/lowering"),
    "other domain": (
        ([node("GroupNorm", ["x"], domain="com.microsoft")], image()),
        r"com.microsoft:GroupNorm \(the_GroupNorm\): .* does not know the operator",
        "plugin of that name",
    ),
    "type": (([node("Gelu", ["x"])], image(DOUBLE)), "its data is float64, TensorRT takes float32", "cast it to float"),
    "type of what is made": (([node("Cast", ["x"], to=DOUBLE)], image()), "its data is float64", "cast"),
    "type behind nodes": (
        ([node("Cast", ["x"], "c", to=UINT8), node("Identity", ["c"])], image()),
        r"Identity \(the_Identity\): its data is uint8",
        "cast it to float32",
    ),
    "type of a constant": (
        ([helper.make_node("Constant", [], ["y"], "the_Constant", value_string="text")], {}),
        "it holds a value_string",
        "hold numbers",
    ),
    "type of choices": (
        ([node("Where", ["c", "x", "x"])], {"c": (BOOL, [4]), "x": (DOUBLE, [4])}),
        "its data is float64",
        "cast it",
    ),
    "cubic": (resize(mode="cubic"), "mode is 'cubic', TensorRT takes 'nearest' or 'linear'", "by nearest or linear"),
    "crops": (
        resize(coordinate_transformation_mode="tf_crop_and_resize"),
        "coordinate_transformation_mode is 'tf_crop_and_resize'",
        "use one of these",
    ),
    "antialias": (resize(mode="linear", antialias=1), "antialias is 1", "blur"),
    "aspect": (resize(keep_aspect_ratio_policy="not_larger"), "keep_aspect_ratio_policy is 'not_larger'", "sizes"),
    "rounding": (
        resize(coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="ceil"),
        "nearest_mode is 'ceil'",
        "half_pixel",
    ),
    "axes": (
        ([node("Resize", ["x", "", "s"], axes=[2, 3])], image() | {"s": (FLOAT, [2])}),
        r"axes is \(2, 3\) with scales that are computed",
        "all axes",
    ),
    "rank 3": (
        ([node("Attention", ["q", "k", "v"], q_num_heads=2, kv_num_heads=2)], qkv("B", "N", 64)),
        "Q has 3 dimensions, TensorRT takes 4",
        "reshape",
    ),
    "softcap": (attention(softcap=30.0), "softcap is 30.0", "tensorrt_10_12"),
    "precision": (attention(softmax_precision=FLOAT), "softmax_precision is set", "leave the attribute out"),
    "scores": (attention(qk_matmul_output_mode=1), "qk_matmul_output_mode is 1", "write it out"),
    "cache": (
        (
            [node("Attention", ["q", "k", "v", "", "past_k", "past_v"])],
            qkv("B", 2, "N", 32) | {name: (HALF, ["B", 2, "P", 32]) for name in ("past_k", "past_v")},
        ),
        "it has past_key, and TensorRT's parser reads no cache",
        "write it out",
    ),
    "present": (
        ([helper.make_node("Attention", ["q", "k", "v"], ["y", "present"], "the_Attention")], qkv("B", 2, "N", 32)),
        "it has more than one output",
        "leave out present_key",
    ),
    "one group": (
        ([node("GroupNormalization", ["x", "s", "b"], num_groups=1)], image(), {n: np.float32([1] * 8) for n in "sb"}),
        "num_groups is 1, .* issue 4756",
        "LayerNormalization",
    ),
    "reduction": (reduction(), "axes is an input of the graph", "make axes a constant"),
    "scatter": (
        (
            [node("ScatterND", ["x", "i", "u"], reduction="add")],
            {"x": (FLOAT, [4]), "i": (INT64, [1, 1]), "u": (FLOAT, [1])},
        ),
        "reduction is 'add'",
        "gather",
    ),
    "pad": (
        ([node("Pad", ["x", "p"], mode="mirror")], image(), {"p": np.int64([0] * 8)}),
        "mode is 'mirror'",
        "use one",
    ),
    "pool": (
        ([node("MaxPool", ["x"], kernel_shape=[2, 2], dilations=[2, 2])], image()),
        r"dilations is \(2, 2\)",
        "without dilations",
    ),
    "pool over one axis": (([node("AveragePool", ["x"], kernel_shape=[2])], {}), "pools over 1 axes", "reshape"),
    "statistics": (
        ([helper.make_node("LayerNormalization", ["x", "s"], ["y", "mean"], "norm")], image(), {"s": np.float32([1])}),
        "more than one output, TensorRT gives the first",
        "leave the others out",
    ),
    "unsorted": (([node("TopK", ["x", "k"], sorted=0)], image(), {"k": np.int64([3])}), "sorted is 0", "let it sort"),
    "many": (
        ([node("TopK", ["x", "k"])], image(), {"k": np.int64([4000])}),
        "K is 4000, .* less than 3840",
        "in parts",
    ),
    "samples": (([node("GridSample", ["x", "g"])], {"x": (FLOAT, [1, 2, 3])}), "has 3 dimensions", "reshape it"),
}


@pytest.mark.parametrize("kind", FINDINGS)
def test_what_is_refused(kind, tmp_path):
    model, reason, fix = FINDINGS[kind]
    finding = unsupported(write(tmp_path / "model.onnx", *model, domains=("com.microsoft",)))[0]
    last = model[0][-1]
    assert (finding.node, finding.operator.rpartition(":")[2]) == (last.name, last.op_type)
    assert str(finding) == f"{finding.operator} ({finding.node}): {finding.reason}; {finding.fix}"
    assert "\n" not in str(finding)
    assert re.search(reason, str(finding))
    assert re.search(fix, finding.fix)


def test_a_type_or_shape_that_cannot_be_told_is_not_found_wrong(tmp_path):
    nodes = [
        node("Gather", ["x", "i"], "g"),
        node("Einsum", ["g"], "e", equation="...i->...i"),
        node("Attention", ["e", "e", "e"]),
    ]
    inputs = {"x": (0, None), "i": (INT64, [1])}
    assert unsupported(write(tmp_path / "model.onnx", nodes, inputs)) == ()


VERSIONS = {
    "Attention": (attention(), "10.14"),
    "RMSNormalization": (([node("RMSNormalization", ["x", "s"])], image(), {"s": np.float32([1])}), "10.15"),
    "Swish": (([node("Swish", ["x"])], image()), "11.0"),
    "DFT": (([node("DFT", ["x"])], image()), "11.2"),
}


@pytest.mark.parametrize("operator", VERSIONS)
def test_a_version_that_does_not_know_the_operator_yet(operator, tmp_path):
    model, since = VERSIONS[operator]
    path = write(tmp_path / "model.onnx", *model, opset=21)
    assert unsupported(path, since) == unsupported(path, f"{since}.0.26") == unsupported(path, "12") == ()
    older = "10.13.3" if since == "10.14" else "10.14.1"
    [finding] = unsupported(path, older)
    assert finding.node == f"the_{operator}"
    assert finding.reason == f"TensorRT {older[:5]} does not know the operator"
    assert finding.fix.startswith(f"update TensorRT to {since} or newer")


@pytest.mark.parametrize(
    ("opset", "tensorrt", "fix"),
    [
        (26, LATEST, "export at opset 25"),
        (25, "11.4.0", "update TensorRT to 11.5 or newer, or export at opset 24"),
        (24, "10.14.1", "update TensorRT to 10.15 or newer, or export at opset 23"),
        (23, "10.12.0", "update TensorRT to 10.14 or newer, or export at opset 22"),
        (8, LATEST, "export at opset 25"),
    ],
)
def test_an_opset_that_is_not_read(opset, tensorrt, fix, tmp_path):
    path = write(tmp_path / "model.onnx", [node("Relu", ["x"])], image(), opset=opset)
    [finding] = unsupported(path, tensorrt)
    assert (finding.node, finding.operator, finding.fix) == ("the whole graph", f"opset {opset}", fix)


def test_versions_newer_than_the_table():
    assert unsupported(DEMO_BUNDLE / "onnx" / "decode" / "model.onnx", "12.1") == ()


@pytest.mark.parametrize("version", ["10.11.9", "8.6", ""])
def test_versions_older_than_the_table(version):
    with pytest.raises(SettingsError, match=r"known for TensorRT 10.12 and newer, not for '.*'; update it"):
        unsupported(DEMO_BUNDLE / "onnx" / "decode" / "model.onnx", version)


def test_what_is_no_model(tmp_path):
    with pytest.raises(BundleSchemaError, match="export the bundle again"):
        unsupported(tmp_path / "none.onnx")


def test_squeeze_without_axes(tmp_path):
    """Read by every version where the shape is fixed, as torch writes the size of one axis; otherwise from 11.5 on."""
    size = [node("Shape", ["x"], "s", start=2, end=3), node("Squeeze", ["s"])]
    assert unsupported(write(tmp_path / "size.onnx", size, image()), "10.14") == ()
    path = write(tmp_path / "model.onnx", [node("Squeeze", ["x"])], image())
    assert unsupported(path, "11.5") == ()
    [finding] = unsupported(path, "11.4")
    assert "names no axes of a shape that is not fixed" in finding.reason


def test_a_node_without_a_name(tmp_path):
    path = write(tmp_path / "model.onnx", [helper.make_node("Det", ["x"], ["d"])], image())
    assert unsupported(path)[0].node == "the one that makes d"


def test_branches_see_the_values_around_them(tmp_path):
    def branch(name, operator):
        made = node(operator, ["wide"], name)
        return helper.make_graph([made], name, [], [helper.make_tensor_value_info(name, DOUBLE, None)])

    nodes = [
        node("Cast", ["x"], "wide", to=DOUBLE),
        node("If", ["c"], then_branch=branch("a", "Tanh"), else_branch=branch("b", "Det")),
    ]
    found = unsupported(write(tmp_path / "model.onnx", nodes, image() | {"c": (BOOL, [])}))
    nodes = sorted((finding.node, finding.operator) for finding in found)
    assert nodes == [("the_Cast", "Cast"), ("the_If/the_Det", "Det"), ("the_If/the_Tanh", "Tanh")]


def test_functions_of_the_file_are_known_and_looked_into(tmp_path):
    body = [node("Relu", ["a"], "r"), node("Det", ["r"], "b")]
    function = helper.make_function("local", "Mine", ["a"], ["b"], body, [helper.make_opsetid("", 23)])
    nodes = [node("Mine", ["x"], domain="local")]
    path = write(tmp_path / "model.onnx", nodes, image(), functions=[function], domains=["local"])
    assert [finding.node for finding in unsupported(path)] == ["local:Mine/the_Det"]


def test_the_table_is_whole():
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert set(OPERATORS) - names == {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}  # of ONNX's first days
    assert list(HIGHEST_OPSET) == sorted(HIGHEST_OPSET, reverse=True)
    assert all(operator.types for operator in OPERATORS.values())


EXPORTED = {
    "mini fp32": lambda: exported_bundle(E2E_MINI, "--precision", "fp32"),
    "mini fp16": lambda: exported_bundle(E2E_MINI, "--precision", "fp16"),
    "mini split": lambda: exported_bundle(E2E_MINI, "--precision", "fp32", "--split-controlnet"),
    "demo fp32": lambda: exported_bundle(DEMO, "--precision", "fp32"),
    "demo as it ships": lambda: DEMO_BUNDLE,
}


def all_in_the_table(folder):
    """Newest and oldest version, each with the files that it is given; and all operators by name."""
    bundle = open_bundle(folder)
    for tensorrt in (LATEST, "10.14.1", "10.12.0"):
        require_supported(bundle, tensorrt)
    for graph, entry in bundle.manifest.graphs.items():
        oldest = onnx_file(bundle, graph, "10.12.0")
        assert Path(oldest).name == "model.tensorrt-10.12.onnx"
        for file in (entry.file, oldest):
            assert {node.op for node in read_graph(bundle.path(file)).nodes} <= OPERATORS.keys()
        assert entry.verification["tensorrt-operators"] == {"tensorrt": LATEST, "findings": []}


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_graphs(name):
    all_in_the_table(EXPORTED[name]())


@pytest.mark.full_size
@pytest.mark.skipif(not os.environ.get("DOSSR_FULL_BUNDLE"), reason="DOSSR_FULL_BUNDLE names no full-size bundle")
def test_full_size_graphs():
    all_in_the_table(Path(os.environ["DOSSR_FULL_BUNDLE"]))


def test_a_bundle_that_is_refused(bundle):
    """The bundle's own files, named with their graph."""
    path = bundle.path(bundle.manifest.graphs["decode"].file)
    write(path, [node("Det", ["latent"])], {"latent": (FLOAT, ["B", 4, "H", "W"])})
    with pytest.raises(
        EngineBuildError, match=rf"TensorRT {LATEST} does not take .*: decode: Det \(the_Det\): .*; write"
    ):
        require_supported(bundle)


def test_the_first_of_many_findings(bundle):
    path = bundle.path(bundle.manifest.graphs["decode"].file)
    nodes = [helper.make_node("Det", ["latent"], [f"d{i}"], f"det{i}") for i in range(7)]
    write(path, nodes, {"latent": (FLOAT, ["B", 4, "H", "W"])})
    with pytest.raises(EngineBuildError, match=r"det0.*det4\).*; and 2 more$"):
        require_supported(bundle)
