"""Models that point outside the bundle, and files that are no models."""

import onnx
import pytest
from onnx import TensorProto, helper

from engines.errors import BundlePathError, BundleSchemaError
from engines.onnx_paths import check_external_paths, external_locations


def external_tensor(name, location):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def model_with(*, initializer=None, constant=None):
    """A model whose external tensor is an initializer, or the value of a Constant inside an If branch."""
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    nodes, initializers = [], []
    if initializer:
        initializers = [external_tensor("w", initializer)]
        nodes = [helper.make_node("Identity", ["w"], ["y"])]
    if constant:
        value = helper.make_node("Constant", [], ["inner"])
        value.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(external_tensor("c", constant))
        branch = helper.make_graph([value], "branch", [], [helper.make_tensor_value_info("inner", 1, [1])])
        nodes = [helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)]
    return helper.make_model(helper.make_graph(nodes, "g", [], [output], initializer=initializers))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bundle/onnx/denoise").mkdir(parents=True)
    (tmp_path / "outside.bin").write_bytes(bytes(4))
    return tmp_path / "bundle"


@pytest.mark.parametrize("kind", ["initializer", "constant"])
def test_location_is_found(folder, kind):
    message = model_with(**{kind: "model.onnx.data"}).SerializeToString()
    assert set(external_locations(memoryview(message))) == {"model.onnx.data"}


@pytest.mark.parametrize("kind", ["initializer", "constant"])
@pytest.mark.parametrize("location", ["../../../outside.bin", "/etc/passwd", "sub/../../../../outside.bin"])
def test_location_outside_is_refused(folder, kind, location):
    model = folder / "onnx/denoise/model.onnx"
    model.write_bytes(model_with(**{kind: location}).SerializeToString())
    with pytest.raises(BundlePathError, match="outside the bundle"):
        check_external_paths(model, folder)


def test_link_that_leads_outside_is_refused(folder):
    model = folder / "onnx/denoise/model.onnx"
    model.write_bytes(model_with(initializer="model.onnx.data").SerializeToString())
    (folder / "onnx/denoise/model.onnx.data").symlink_to(folder.parent / "outside.bin")
    with pytest.raises(BundlePathError, match="outside the bundle"):
        check_external_paths(model, folder)


def test_location_inside_is_accepted(folder):
    model = folder / "onnx/denoise/model.onnx"
    model.write_bytes(model_with(initializer="model.onnx.data").SerializeToString())
    check_external_paths(model, folder)
    assert list(external_locations(memoryview(model.read_bytes()))) == ["model.onnx.data"]


@pytest.mark.parametrize("data", [b"\x3a\xff\xff\xff\x0f", b"\x3a", b"\x07", b"\xff" * 20, b"not a model at all"])
def test_not_a_model(folder, data):
    model = folder / "onnx/denoise/model.onnx"
    model.write_bytes(data)
    with pytest.raises(BundleSchemaError, match="not a readable ONNX file"):
        check_external_paths(model, folder)
