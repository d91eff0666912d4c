"""One graph to an ONNX file: shapes, the gate of the comparison, networks that cannot be exported."""

import onnxruntime
import pytest
import torch

from engines.bundle import Precision
from engines.graphs import GraphSpec, TensorSpec, axis_ranges
from export.errors import ExportError, ExportVerificationError
from export.lowering import onnxruntime_cpu
from export.onnx_export import export_graph
from export.verification import Expectation, verify
from export.wrappers import Graph


class Double(Graph):
    def forward(self, latent):
        return latent * 2


class Wrong(Graph):
    def forward(self, latent):
        return latent * 2.001


SPEC = GraphSpec(
    name="double",
    inputs=(TensorSpec(name="latent", shape=("B", 4, "H", "W")),),
    outputs=(TensorSpec(name="output", shape=("B", 4, "H", "W")),),
)


def expect(value):
    return [Expectation(label="1x8x8", inputs={"latent": torch.ones(1, 4, 8, 8)}, outputs={"output": value})]


@pytest.mark.parametrize("static", [None, (8, 16)])
def test_shapes_of_an_export(tmp_path, static):
    path = export_graph(Double(), SPEC, axis_ranges(static), tmp_path / "double", static)
    session = onnxruntime.InferenceSession(path)
    expected = ["B", 4, "H", "W"] if static is None else [1, 4, 8, 16]
    assert session.get_inputs()[0].shape == session.get_outputs()[0].shape == expected
    assert onnxruntime_cpu.lower(path) is None


class Unexportable(Graph):
    def forward(self, latent):
        return latent if latent.sum() > 0 else -latent


def test_network_that_torch_cannot_export(tmp_path):
    with pytest.raises(ExportError, match=r"cannot export double.*constraints\.txt") as caught:
        export_graph(Unexportable(), SPEC, axis_ranges(), tmp_path / "double", None)
    assert "\n" not in str(caught.value)


def test_verification_gate(tmp_path):
    path = export_graph(Wrong(), SPEC, axis_ranges(), tmp_path / "wrong", None)
    latent = torch.randn(1, 4, 8, 8)
    case = [Expectation(label="1x8x8", inputs={"latent": latent}, outputs={"output": latent * 2})]
    with pytest.raises(ExportVerificationError, match=r"double\.output at 1x8x8.*1e-04") as caught:
        verify(path, SPEC, case, Precision.FP32)
    assert "\n" not in str(caught.value)
    assert verify(path, SPEC, case, Precision.FP16)["deviation"] < 2e-2
    with pytest.raises(ExportVerificationError, match="itself gives NaN"):
        verify(path, SPEC, expect(torch.full((1, 4, 8, 8), torch.nan)), Precision.FP32)
    nan = [Expectation(label="a", inputs={"latent": latent * torch.inf}, outputs={"output": latent})]
    with pytest.raises(ExportVerificationError, match="NaN or infinity"):
        verify(path, SPEC, nan, Precision.FP32)


class Posterior(Graph):
    """A large mean, and a standard deviation a thousand times smaller that is 1 % off."""

    def forward(self, latent):
        return latent * 10, latent * 0.0101


@pytest.mark.parametrize(("small", "accepted"), [("latent_std", True), ("other", False)])
def test_the_error_of_a_standard_deviation_counts_beside_its_mean(tmp_path, small, accepted):
    outputs = tuple(TensorSpec(name=name, shape=("B", 4, "H", "W")) for name in ("latent_mean", small))
    spec = GraphSpec(name="posterior", inputs=SPEC.inputs, outputs=outputs)
    path = export_graph(Posterior(), spec, axis_ranges(), tmp_path / "posterior", None)
    latent = torch.rand(1, 4, 8, 8) - 0.5
    answers = {"latent_mean": latent * 10, small: latent * 0.01}
    case = [Expectation(label="1x8x8", inputs={"latent": latent}, outputs=answers)]
    if accepted:
        assert verify(path, spec, case, Precision.FP32)["deviation"] < 1e-4
    else:
        with pytest.raises(ExportVerificationError, match="other"):
            verify(path, spec, case, Precision.FP32)
