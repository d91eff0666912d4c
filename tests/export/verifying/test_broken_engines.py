"""Wrong exports are caught, with the graph and the first tensor named; a right one passes."""

import dataclasses

import pytest

from export.progress import Silent
from export.verifying.judge import VerifySettings, judge
from export.verifying.report import TEACHER
from export.verifying.table import first_departure, table
from tests import broken
from tests.parity.exporting import E2E_MINI, exported_bundle
from tests.paths import MINI

torch = pytest.importorskip("torch")

WEIGHT = "unet.network.down_blocks.1.resnets.0.conv1.weight"
SCALED = "conv2d_6"
"""A convolution in the decoder whose values exceed 1, so that 60,000 times them exceed fp16."""


@pytest.fixture(params=["fp32", "fp16"])
def bundle(request):
    return request.getfixturevalue({"fp32": "mini_bundle", "fp16": "mini_bundle_fp16"}[request.param])


def verify(bundle, **settings):
    return judge(VerifySettings(bundle=bundle, steps=2, order=1, **settings), Silent()).report


def failures(report):
    """(engine, graph) to the failure."""
    return {(engine.name, one.graph): one for engine in report.engines for one in engine.failures}


def test_a_right_export_passes(bundle, mini_bundle):
    report = verify(bundle, reference=mini_bundle)
    assert report.passed, table(report)
    assert [engine.name for engine in report.engines] == ["canonical", "onnxruntime-cpu"]
    for engine in report.engines:
        assert {one.graph for one in engine.within} == set(report.graphs)
        for one in engine.within:
            assert one.compared > 0.7 * one.of, one
            assert one.deviation <= 10 * engine.gate.deviation, one


def test_a_right_export_passes_against_torch(bundle):
    """A search stands on nearly every tensor having its counterpart among torch's own results."""
    report = verify(
        bundle, checkpoint=MINI / "model.ckpt", config=MINI / "config.yaml", context=MINI / "context.safetensors"
    )
    assert report.passed, table(report)
    assert report.notes == ()
    assert report.limits == ""
    for engine in report.engines:
        for one in engine.within:
            assert one.compared > 0.7 * one.of, one
            assert one.deviation <= 10 * engine.gate.deviation, one


@pytest.mark.parametrize("fixture", ["mini_bundle", "mini_bundle_fp16"])
def test_a_bundle_s_own_files_know_every_tensor(request, fixture):
    """fp16 files are widened to be the reference, which renames their weights."""
    report = verify(request.getfixturevalue(fixture))
    assert report.passed, table(report)
    for engine in report.engines:
        for one in engine.within:
            assert one.compared > 0.95 * one.of, one


def test_split_graphs(tmp_path):
    """The ControlNet's graph has many outputs, all of them judged; a weight of its own is found in it."""
    split = exported_bundle(E2E_MINI, "--precision", "fp32", "--split-controlnet")
    weight = "network.down_blocks.1.resnets.0.conv1.weight"
    wrong = broken.with_zeroed_weight(split, tmp_path / "wrong", "controlnet", weight)
    report = verify(wrong, reference=split)
    found = failures(report)
    assert set(found) == {("canonical", "controlnet"), ("onnxruntime-cpu", "controlnet")}
    assert {failure.departure.module for failure in found.values()} == {weight.removesuffix(".weight")}


def test_zeroed_weight(bundle, mini_bundle, tmp_path):
    wrong = broken.with_zeroed_weight(bundle, tmp_path / "wrong", "denoise", WEIGHT)
    report = verify(wrong, reference=mini_bundle)
    found = failures(report)
    assert set(found) == {("canonical", "denoise"), ("onnxruntime-cpu", "denoise")}
    for failure in found.values():
        assert failure.departure.verdict == "tensor"
        assert failure.departure.operator == "Conv"
        assert failure.departure.module == WEIGHT.removesuffix(".weight")
        assert failure.departure.tensor == failure.departure.node.removeprefix("node_")
        assert [(weight.module, weight.zero) for weight in failure.weights.wrong] == [(WEIGHT, True)]
        assert failure.islands is None or failure.islands.smallest is None
    words = first_departure(report)
    assert "canonical, graph denoise, step 1 (timestep 499): the first tensor that departs is conv2d_" in words
    assert f"module {WEIGHT.removesuffix('.weight')}" in words
    assert "onnxruntime-cpu fails too" in words
    assert "all zero" in table(report)


def test_zeroed_matrix_that_the_exporter_renamed(mini_bundle, tmp_path):
    """Linear layers without a bias are stored transposed, under a number."""
    from export.verifying.onnx_graph import load_graph

    graph = load_graph(mini_bundle / "onnx/encode/model.onnx")
    matrices = [node.input[1] for node in graph.nodes if node.op_type == "MatMul" and node.input[1] in graph.constants]
    wrong = broken.with_zeroed_weight(mini_bundle, tmp_path / "wrong", "encode", matrices[0])
    report = verify(
        wrong,
        checkpoint=MINI / "model.ckpt",
        config=MINI / "config.yaml",
        context=MINI / "context.safetensors",
        engines=("canonical",),
    )
    failure = failures(report)["canonical", "encode"]
    assert failure.departure.module.startswith("vae.encoder.mid_block.attentions.0")
    [weight] = failure.weights.wrong
    assert weight.name == matrices[0]
    assert weight.zero
    assert weight.module.startswith("vae.encoder.mid_block.attentions.0.to_")


def test_swapped_sinusoid(bundle, mini_bundle, tmp_path):
    """The random checkpoint's output hardly depends on the timestep, so that only the tensor itself tells."""
    wrong = broken.with_swapped_sinusoid(bundle, tmp_path / "wrong")
    report = verify(wrong, reference=mini_bundle)
    assert not report.passed
    found = failures(report)
    assert set(found) == {("canonical", "denoise"), ("onnxruntime-cpu", "denoise")}
    for failure in found.values():
        assert failure.departure.tensor == "cat"
        assert failure.departure.operator == "Concat"
        assert failure.departure.module == "controlnet.network.time_embedding"
        assert failure.departure.alone.deviation > 1
        assert failure.weights.wrong == ()
        assert failure.hidden == all(
            one.passed for one in report.engines[0].comparisons if one.graph == "denoise" and one.mode == TEACHER
        )
    assert "the first tensor that departs is cat (" in first_departure(report)


def test_wrong_prompt(bundle, mini_bundle, tmp_path):
    wrong = broken.with_prompt(bundle, tmp_path / "wrong", other_prompt())
    report = verify(wrong, reference=mini_bundle)
    found = failures(report)
    assert set(found) == {("canonical", "denoise"), ("onnxruntime-cpu", "denoise")}
    for failure in found.values():
        assert failure.departure.module.endswith("transformer_blocks.0.attn2")
        assert failure.departure.module.startswith("controlnet.")  # the first of all
        assert failure.departure.tensor == "expand"
        assert len(failure.weights.wrong) == 28
        assert all(weight.module.endswith(("attn2.keys", "attn2.values")) for weight in failure.weights.wrong)
    assert "these are the prompt: the bundle was exported with another --context" in table(report)


def other_prompt():
    """Keys and values as an export with another context file bakes them."""
    from export.source import open_source
    from export.stages import stages

    with torch.no_grad():
        source = open_source(MINI / "model.ckpt", MINI / "config.yaml", MINI / "context.safetensors")
        other = torch.randn(source.given_context.shape, generator=torch.Generator().manual_seed(5))
        [stage] = [
            one for one in stages(dataclasses.replace(source, given_context=other)) if one.spec.name == "denoise"
        ]
        buffers = dict(stage.create().named_buffers())
    return {name: value.numpy() for name, value in buffers.items() if name.endswith(("attn2.keys", "attn2.values"))}


def test_scale_that_overflows_fp16(mini_bundle_fp16, mini_bundle, tmp_path):
    wrong = broken.with_scale(mini_bundle_fp16, tmp_path / "wrong", "decode", SCALED, 60000.0)
    report = verify(wrong, reference=mini_bundle)
    by_name = {engine.name: engine for engine in report.engines}
    assert by_name["onnxruntime-cpu"].passed  # it computes in float32
    failure = failures(report)["canonical", "decode"]
    assert failure.figures.nan + failure.figures.inf > 0
    departure = failure.departure
    assert departure.verdict == "tensor"
    assert (departure.tensor, departure.node, departure.operator) == ("mul_9000", "node_mul_9000", "Mul")
    assert departure.module.startswith("vae.decoder.up_blocks.0")
    assert departure.figures.inf > 0
    assert max(departure.inputs.values()) < 0.05
    islands = failure.islands
    assert islands.smallest.mends
    assert islands.beyond >= 1
    assert islands.smallest.size <= 4
    assert set(islands.nodes) == {"node_mul_9000", "node_identity_9001", "node_mul_9002"}
    assert "mended by" in table(report)
    assert by_name["canonical"].picture.psnr < 45


def test_scale_within_float32_is_right(mini_bundle, tmp_path):
    """The same edit in an fp32 bundle changes nothing, and nothing is claimed."""
    scaled = broken.with_scale(mini_bundle, tmp_path / "scaled", "decode", SCALED, 65536.0)
    assert verify(scaled, reference=mini_bundle).passed


def test_without_another_reference_only_engines_are_judged(mini_bundle, mini_bundle_fp16, tmp_path):
    """And the report says so."""
    wrong = broken.with_zeroed_weight(mini_bundle, tmp_path / "wrong", "denoise", WEIGHT)
    report = verify(wrong)
    assert report.passed
    assert [engine.name for engine in report.engines] == ["onnxruntime-cpu"]
    assert report.limits.startswith("wrong weights or a wrong export")
    overflowing = broken.with_scale(mini_bundle_fp16, tmp_path / "overflowing", "decode", SCALED, 60000.0)
    report = verify(overflowing)
    assert report.limits.startswith("wrong or badly rounded weights")
    departure = failures(report)["canonical", "decode"].departure
    assert departure.tensor == "mul_9000"


def test_wrong_lowering_is_told_from_a_wrong_export(mini_bundle, tmp_path):
    """Only the file for ONNX Runtime is wrong; the canonical one is the reference."""
    import onnx

    wrong = tmp_path / "wrong"
    with broken.edited(mini_bundle, "decode", wrong, lower_again=False) as (_, folder):
        path = folder / "model.onnxruntime-cpu.onnx"
        model = onnx.load(path, load_external_data=False)
        node = [n for n in model.graph.node if n.op_type == "InstanceNormalization"][3]
        next(a for a in node.attribute if a.name == "epsilon").f = 0.5
        onnx.save(model, path)
        group_norm = node.output[0].removesuffix(".normal_groups")
    report = verify(wrong)
    departure = failures(report)["onnxruntime-cpu", "decode"].departure
    assert departure.tensor == group_norm
    assert departure.operator == "GroupNormalization"
    assert failures(report)["onnxruntime-cpu", "decode"].weights.wrong == ()
