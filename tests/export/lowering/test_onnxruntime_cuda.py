"""The form for the CUDA provider: the canonical graph's numbers, its own operators written out for the CPU, and nothing
rewritten that only resembles.
"""

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.bundle import Precision, open_bundle
from export.lowering.channels_last import enlarge_channels_last, fuse_group_norm, is_supported
from export.lowering.cuda_kernels import without_kernel
from export.lowering.editor import GraphEditor
from export.lowering.expansion import expand_for_cpu, expanded
from export.lowering.onnxruntime_cuda import BACKEND, REWRITES, lower
from runtime.default_bundle import default_bundle

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(nodes, constants, inputs, *, outputs=("y",), half=False):
    dtype = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, [None] * len(next(iter(inputs.values())))) for name in outputs],
        [
            numpy_helper.from_array(v.astype(np.float16) if half and v.dtype == np.float32 else v, name)
            for name, v in constants.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def run(model, **inputs):
    data = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def rewritten(model, *rewrites):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for rewrite in rewrites:
        rewrite(GraphEditor(changed))
    onnx.checker.check_model(changed)
    return changed


def operators(model):
    return [node.op_type for node in model.graph.node]


def group_norm(silu=True, *, groups=4, channels=16, outputs=("y",), half=False):
    nodes = [helper.make_node("GroupNormalization", ["x", "s", "b"], ["n"], "norm", num_groups=groups, epsilon=1e-6)]
    if silu:
        nodes += [helper.make_node("Sigmoid", ["n"], ["g"]), helper.make_node("Mul", ["n", "g"], ["y"])]
    else:
        nodes += [helper.make_node("Identity", ["n"], ["y"])]
    constants = {"s": normal(channels), "b": normal(channels)}
    return model_of(nodes, constants, {"x": ["B", channels, "H", "W"]}, outputs=outputs, half=half)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape", [(1, 16, 5, 7), (3, 16, 8, 2)])
def test_group_norm(shape, silu, half):
    model = group_norm(silu, half=half)
    changed = rewritten(model, fuse_group_norm)
    [node] = [n for n in changed.graph.node if n.op_type == "GroupNorm"]
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert found == {"groups": 4, "epsilon": pytest.approx(1e-6), "activation": int(silu), "channels_last": 1}
    assert "Sigmoid" not in operators(changed)
    x = (2e-3 * normal(*shape) + 0.01).astype(np.float16 if half else np.float32)  # a wrong epsilon would show
    written_out = rewritten(changed, expand_for_cpu)
    assert "GroupNorm" not in operators(written_out)
    np.testing.assert_allclose(run(written_out, x=x)[0], run(model, x=x)[0], atol=4e-3 if half else 2e-5)


def test_a_value_that_others_read_is_not_activated():
    changed = rewritten(group_norm(outputs=("y", "n")), fuse_group_norm)
    assert operators(changed).count("GroupNorm") == 1
    assert "Sigmoid" in operators(changed)
    x = normal(1, 16, 4, 4)
    model = group_norm(outputs=("y", "n"))
    for ours, theirs in zip(
        run(rewritten(rewritten(model, fuse_group_norm), expand_for_cpu), x=x), run(model, x=x), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize(
    ("channels", "groups", "supported"),
    [
        *[(c, 32, True) for c in (128, 256, 320, 512, 640, 960, 1280, 1920, 2560)],  # the full-size model's
        *[(c, 8, True) for c in (32, 64, 96, 128)],  # the demo's
        (32, 32, False),  # a thread takes two channels of one group
        (96, 32, False),
        (100, 32, False),
        (1024, 2, True),
        (1028, 2, False),  # wider than a block
    ],
)
def test_what_the_kernel_takes(channels, groups, supported):
    assert is_supported(channels, groups) is supported


def test_what_the_kernel_does_not_take_stays():
    model = group_norm(groups=16)
    assert rewritten(model, fuse_group_norm) == model
    assert without_kernel(model) == {"GroupNormalization": 1}


@pytest.mark.parametrize(
    ("mode", "scales", "changes"), [("nearest", (1, 1, 2, 2), True), ("linear", (1, 1, 2, 2), False)]
)
def test_enlarging(mode, scales, changes):
    node = helper.make_node(
        "Resize", ["x", "", "scales"], ["y"], mode=mode, nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    model = model_of([node], {"scales": np.array(scales, np.float32)}, {"x": ["B", 3, "H", "W"]})
    changed = rewritten(model, enlarge_channels_last)
    assert (operators(changed) == ["Transpose", "Resize", "Transpose"]) is changes
    x = normal(2, 3, 4, 5)
    np.testing.assert_array_equal(run(changed, x=x)[0], run(model, x=x)[0])


BUNDLES = [
    pytest.param("demo", 2e-2, id="demo"),
    pytest.param("mini_bundle", 1e-4, id="mini-fp32"),
    pytest.param("mini_bundle_fp16", 2e-2, id="mini-fp16"),
]


@pytest.mark.parametrize("graph", ["preprocess", "encode", "denoise", "decode"])
@pytest.mark.parametrize(("bundle", "tolerance"), BUNDLES)
def test_whole_graphs(request, tmp_path, bundle, tolerance, graph):
    """Another size and batch than at export, against the canonical file."""
    opened = open_bundle(default_bundle() if bundle == "demo" else request.getfixturevalue(bundle))
    entry = opened.manifest.graphs[graph]
    canonical = opened.path(entry.file)
    for file in canonical.parent.glob("model.onnx*"):
        shutil.copy(file, tmp_path)  # onnx refuses weights that have two names
    lowered = lower(tmp_path / canonical.name)
    model = onnx.load(lowered, load_external_data=False)
    assert [v.name for v in model.graph.output] == [s.name for s in entry.spec.outputs]
    # Smaller sides leave the mini checkpoint two pixels to normalise, which magnifies any rounding.
    sizes = {"B": 2, "H": 32, "W": 24, "8*H": 256, "8*W": 192, "h": 9, "w": 6}
    inputs = {s.name: normal(*(d if isinstance(d, int) else sizes[d] for d in s.shape)) for s in entry.spec.inputs}
    inputs |= {"timestep": np.full(1, 300, np.float32)} if "timestep" in inputs else {}
    with expanded(lowered) as runnable:
        ours = run(str(runnable), **inputs)
    assert not runnable.exists()
    for a, b in zip(ours, run(str(canonical), **inputs), strict=True):
        assert np.abs(a - b).max() <= tolerance * b.std()
    if bundle == "demo":
        assert opened.manifest.precision is Precision.FP16
        check_demo(model, onnx.load(canonical, load_external_data=False))


def check_demo(model, canonical):
    """Every norm and attention is in its CUDA form, and no number is computed on the CPU."""
    before, after = operators(canonical), operators(model)
    assert after.count("GroupNorm") == before.count("GroupNormalization")
    assert after.count("MultiHeadAttention") == before.count("Attention")
    assert without_kernel(model) == {}
    assert "GroupNormalization" not in after
    whole = {t.name for t in model.graph.initializer if t.data_type == TensorProto.INT64}
    whole |= {name for node in model.graph.node if node.op_type == "Shape" for name in node.output}
    readers = {n.op_type for n in model.graph.node if whole & set(n.input)}
    assert readers <= {"Reshape", "Expand", "Slice", "Split", "Unsqueeze", "Squeeze"}  # no arithmetic
    by_shape = [n for n in model.graph.node if n.op_type == "Shape"]
    assert {n.input[0] for n in by_shape} <= {
        n.output[0] for n in model.graph.node if n.op_type in ("GroupNorm", "Slice")
    }


def test_a_static_graph(tmp_path):
    """Reshapes to constants stay as they are."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "target"], ["y"]),
    ]
    model = model_of(nodes, {"target": np.array([1, 64, 4])}, {"x": [1, 4, 8, 8]})
    onnx.save(model, tmp_path / "model.onnx")
    assert lower(tmp_path / "model.onnx") is None
    assert not (tmp_path / f"model.{BACKEND}.onnx").exists()


def test_a_reshape_of_another_kind_stays():
    """Height and width that are put together of shapes, but for a map that nothing normalises."""
    piece = [helper.make_node("Shape", ["x"], [f"d{i}"], start=i, end=i + 1) for i in range(3)]
    nodes = [
        *piece,
        helper.make_node("Concat", ["d0", "d1", "d2", "last"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    model = model_of(nodes, {"last": np.array([2])}, {"x": ["B", "H", "W", 2]})
    assert rewritten(model, *REWRITES) == model


def test_types_without_a_kernel():
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)
    model = model_of([node, helper.make_node("Mish", ["x"], ["z"])], {"c": np.zeros(2)}, {"x": [1]}, outputs=("y", "z"))
    assert without_kernel(model) == {"Mish": 1, "bfloat16": 1, "double": 1}
