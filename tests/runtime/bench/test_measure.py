"""Runs on a bundle of tiny graphs: their parts add up."""

import pytest

import runtime
from engines.bundle import open_bundle
from engines.errors import EngineError
from engines.profiles import profile_of
from runtime.bench.ceilings import Ceilings
from runtime.bench.cold import first_picture
from runtime.bench.measure import GAPS, Bench, Case, measured
from runtime.bench.photo import picture_file
from runtime.bench.report import case_report, cold_report, stage_works
from runtime.clock import Span
from tests.tiny import write_tiny_bundle

CASE = Case(width=40, height=24, steps=3)
CEILINGS = Ceilings(product=1e12, convolution=2e12, copy=1e11, precision="fp32", how="made up")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), separate_condition=True)


@pytest.fixture(scope="module")
def figures(bundle):
    with runtime.Upscaler(bundle, device="cpu", threads=1) as upscaler:
        bench = Bench(upscaler, CASE)
        bench.warm_up()
        rounds = [[bench.run() for _ in range(3)], [bench.run() for _ in range(2)]]
    return rounds, measured(CASE, rounds)


def test_a_run_is_made_of_its_spans_and_gaps(figures):
    for run in (run for runs in figures[0] for run in runs):
        assert run.total == pytest.approx(sum(span.seconds for span in run.spans) + run.gaps)
        assert 0 < run.engine < run.picture < run.total
        assert run.gaps > 0
        assert run.save > 0


def test_stages(figures):
    stages = figures[1].stages
    assert list(stages)[-2:] == [GAPS, "save"]
    assert {name: stage.calls for name, stage in stages.items() if stage.calls > 1} == {
        "convert": 2,
        "noise": 4,
        "denoise": 3,
        "solver": 3,
    }
    assert figures[1].picture.count == len(figures[1].seconds) == 5


def test_what_is_summed_up(figures):
    runs = [run for runs in figures[0] for run in runs]
    covered = [sum(span.seconds for span in run.spans) / run.total for run in runs]
    assert figures[1].coverage == pytest.approx(min(covered))
    assert figures[1].typical in runs
    assert figures[1].picture.p50 == figures[1].typical.picture


def test_stage_of_two_calls_has_the_seconds_of_both():
    spans = (Span("denoise", 0, 1_000_000_000, 1), Span("solver", 1_000_000_000, 1_500_000_000, 1))
    spans += (Span("denoise", 2_000_000_000, 4_000_000_000, 2), Span("load", 4_000_000_000, 4_250_000_000))
    from runtime.bench.measure import Run

    run = Run(spans=spans, total=4.5, save=1.0)
    assert run.seconds("denoise") == run.engine == pytest.approx(3.0)
    assert run.picture == pytest.approx(4.25)
    assert run.gaps == pytest.approx(0.75)
    figures = measured(CASE, [[run]])
    assert figures.coverage == pytest.approx(3.75 / 4.5)
    assert figures.overhead == pytest.approx(1.25 / 4.25)


def test_report_of_a_case(bundle, figures):
    opened = open_bundle(bundle)
    report = case_report(opened, (profile_of(opened.manifest.axes),), figures[1], CEILINGS)
    assert (report["width"], report["height"], report["steps"], report["batch"]) == (40, 24, 3, 1)
    stages = {stage["name"]: stage for stage in report["stages"]}
    decode = stages["decode"]
    H, W = 16, 24  # 24 and 40 padded to multiples of 16
    assert decode["flops"] == 2 * 3 * 4 * H * W
    assert decode["flops_per_second"] == pytest.approx(decode["flops"] / decode["seconds"]["p50"])
    floor = max(decode["flops"] / 2e12, decode["least_bytes"] / 1e11)
    assert decode["of_ceiling"] == pytest.approx(floor / decode["seconds"]["p50"])
    assert stages["denoise"]["least_bytes"] % 3 == 0
    assert [name for name, stage in stages.items() if stage["apart"]] == ["load", "finish", "save"]
    assert "flops" not in stages["solver"]
    assert report["uncounted"] == {}
    one = measured(CASE, [[figures[0][0][0]]])  # medians of the parts of several need not add up to the whole's
    report = case_report(opened, (profile_of(opened.manifest.axes),), one, CEILINGS)
    assert sum(stage["share"] for stage in report["stages"] if not stage["apart"]) == pytest.approx(1)


def test_a_graph_that_cannot_be_counted_is_said(bundle, tmp_path):
    opened = open_bundle(write_tiny_bundle(tmp_path))
    (tmp_path / "onnx/decode/model.onnx").write_text("damaged meanwhile")
    works, uncounted = stage_works(opened, (profile_of(opened.manifest.axes),), 16, 16)
    assert set(works) == {"preprocess", "encode", "denoise"}
    assert "not a readable ONNX file" in uncounted["decode"]


def test_first_picture_of_a_fresh_process(bundle):
    cold = first_picture({"bundle": str(bundle), "device": "cpu", "threads": 1}, CASE)
    assert min(cold.start, cold.load, cold.first) > 0
    assert cold.peak_memory > 10_000_000
    assert cold.gpu_memory is None
    report = cold_report([cold, cold])
    assert (report["processes"], report["load"]["p50"], report["gpu_memory"]) == (2, cold.load, None)


def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(EngineError, match="BundleNotFoundError: no bundle at"):
        first_picture({"bundle": str(tmp_path)}, CASE)


def test_the_picture_is_always_the_same():
    assert picture_file(33, 20) == picture_file(33, 20) != picture_file(20, 33)
