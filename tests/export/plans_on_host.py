"""Run by test_plans.py with the plugin tests.cuda_on_host.plugin: engines are built, run and verified on the stand-ins
of CUDA and TensorRT. Arithmetic is ONNX Runtime's on the CPU; the islands are real.
"""

import dataclasses
import weakref

import numpy as np
import pytest

from engines.bundle import open_bundle
from engines.errors import EngineBuildError, EngineError, EngineUnavailableError
from engines.profiles import parse_profile
from engines.trt_plans import PLANS, find_plans, onnx_file
from export.engine_options import EngineRequest
from export.plan_forms import Arithmetic, arithmetic
from export.plans import build_plans, summary
from export.progress import Silent
from export.samples import random_inputs, sizes
from export.verifying import candidates
from export.verifying.device import DeviceStream
from export.verifying.plan_check import check_sizes, open_reference
from runtime.default_bundle import DEMO_BUNDLE
from tests import tensorrt_standin
from tests.broken import overflowing
from tests.cuda_on_host.plugin import machine
from tests.tensorrt_standin import VERSION, faults, running
from tests.tiny import write_tiny_bundle

SMALL = EngineRequest(profiles=(parse_profile("8x16"),), timing_cache=False)


@pytest.fixture(autouse=True)
def standin(monkeypatch, tmp_path):
    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(running, "on_stream", [machine.run])
    with tensorrt_standin.installed(monkeypatch) as module:
        yield module


@pytest.fixture
def tiny(tmp_path):
    return open_bundle(write_tiny_bundle(tmp_path / "bundle"))


class Told:
    def __init__(self):
        self.stages = []

    def stage(self, name, done):
        self.stages.append(name)


@pytest.mark.parametrize("changes", [{}, {"strip_weights": True}, {"version_compatible": True}], ids=str)
def test_every_plan_is_held_against_the_graph_in_float32(tiny, changes):
    profiles = tuple(map(parse_profile, ("8x16", "3x8x8", "1x8x8:1x8x24:1x16x256")))
    request = dataclasses.replace(SMALL, profiles=profiles, **changes)
    bundle, plans = build_plans(tiny, request, Silent())
    for record in plans.graphs.values():
        found = record.verification
        assert found["cases"] == ["1x8x16", "3x8x8", "1x8x24"]
        assert found["deviation"] <= 1e-6
        assert found["cosine"] >= 0.999999
    assert find_plans(bundle, plans.machine)[1] == plans
    lines = list(summary(bundle, plans))
    assert lines[0] == f"TensorRT engines for {plans.machine} in {bundle.folder / PLANS / plans.key}"
    assert lines[1].startswith("  preprocess: ")
    assert " s, " in lines[1]
    assert lines[1].endswith("at 1x8x16, 3x8x8, 1x8x24")
    assert len(lines) == 1 + len(plans.graphs)


def test_every_item_of_a_batch_may_be_the_wrong_one(tiny, monkeypatch):
    def run(context):
        real(context)
        for name in context.engine.note["outputs"]:
            if len(context.engine.note["outputs"][name]) == 4:
                context._array(name, context._shapes_of_outputs[name])[-1] += 1

    real = running.IExecutionContext._run
    shapes = {"preprocessed": (2, 3, 64, 64)}
    monkeypatch.setattr(running.IExecutionContext, "_shapes_of_outputs", shapes, raising=False)
    monkeypatch.setattr(running.IExecutionContext, "_run", run)
    with pytest.raises(EngineBuildError, match="preprocessed of the engine of graph preprocess at 2x8x8 differs"):
        build_plans(tiny, dataclasses.replace(SMALL, profiles=(parse_profile("2x8x8"),)), Silent())


def test_a_graph_that_overflows_in_fp16_gets_islands(tmp_path):
    bundle = open_bundle(overflowing(DEMO_BUNDLE, tmp_path / "bundle", "decode"))
    told = Told()
    mended, plans = build_plans(bundle, SMALL, told)
    assert open_bundle(bundle.folder).manifest == mended.manifest, "every hash is right"
    assert "decode: wrong, looking for float32 islands" in told.stages
    assert "encode: kept from the build before" in told.stages, "what was finished is not built again"
    kind, islands = arithmetic(mended, "decode", VERSION)
    assert kind is Arithmetic.ISLANDS
    assert "node_scaled_dot_product_attention" in islands
    assert len(islands) < 10
    record = plans.graphs["decode"]
    assert record.onnx == onnx_file(mended, "decode", VERSION) == "onnx/decode/model.tensorrt-float32-islands.onnx"
    assert record.verification["deviation"] < 5e-2
    assert [arithmetic(mended, name, VERSION)[0] for name in ("preprocess", "encode", "denoise")] == ["fp16"] * 3
    noted = mended.manifest.graphs["decode"].verification["tensorrt"]
    assert "NaN" in noted["because"]
    assert noted["chosen"] == "values beyond fp16's range"
    assert [line for line in summary(mended, plans) if f"{len(islands)} operators in float32" in line]
    assert sorted(path.name for path in (bundle.folder / PLANS).iterdir()) == [plans.key]
    assert find_plans(mended, plans.machine)[1] == plans


def test_where_islands_do_not_help_all_of_the_graph_is_float32(tmp_path):
    bundle = open_bundle(overflowing(DEMO_BUNDLE, tmp_path / "bundle", "decode"))
    faults.scale = {"decode/model.tensorrt-float32-islands.onnx": 2.0}
    mended, plans = build_plans(bundle, SMALL, Silent())
    assert arithmetic(mended, "decode", VERSION) == (Arithmetic.FLOAT32, ())
    assert open_bundle(bundle.folder).manifest == mended.manifest
    names = sorted(path.name for path in (bundle.folder / "onnx" / "decode").glob("*.tensorrt-float32*"))
    assert names == ["model.tensorrt-float32.onnx"], "a form that nothing names does not stay"
    assert [line for line in summary(mended, plans) if "decode" in line and "all operators in float32" in line]


def test_what_no_form_mends_is_an_error(tmp_path):
    bundle = open_bundle(overflowing(DEMO_BUNDLE, tmp_path / "bundle", "decode"))
    faults.scale = {f"decode/model.tensorrt-float32{part}.onnx": 2.0 for part in ("", "-islands")}
    with pytest.raises(EngineBuildError, match=rf"by 1\..* of its spread.*TensorRT {VERSION} has no more exact form"):
        build_plans(bundle, SMALL, Silent())
    assert not list((bundle.folder / PLANS).glob("[!.]*"))
    assert open_bundle(bundle.folder), "the bundle is whole"


def test_a_float32_bundle_has_no_other_form(tiny):
    faults.scale = {"encode/model.onnx": 1.01}
    with pytest.raises(EngineBuildError, match=r"latent_mean of the engine of graph encode at 1x8x16 differs"):
        build_plans(tiny, SMALL, Silent())
    assert open_bundle(tiny.folder).manifest == tiny.manifest


def test_a_plan_that_cannot_be_run(tiny):
    faults.enqueue_error = "Cuda Runtime (an illegal memory access)"
    with pytest.raises(EngineError, match="TensorRT failed in graph preprocess: Cuda Runtime"):
        build_plans(tiny, SMALL, Silent())


def test_sizes_that_are_too_large_for_the_cpu_are_told(tiny):
    request = dataclasses.replace(SMALL, profiles=(parse_profile("1024x1024"),))
    assert check_sizes(request.options(tiny.manifest.axes)) == []
    bundle, plans = build_plans(tiny, request, Silent())
    *_, last = summary(bundle, plans)
    assert last.startswith("WARNING: these engines were NOT VERIFIED")
    assert "too large for a reference on the CPU" in last


def test_a_call_lives_until_its_work_is_done(tiny):
    calls, alive_then = weakref.WeakSet(), []
    stream = DeviceStream("cuda:0")
    work = stream._device.work

    class Call:
        def __init__(self):
            calls.add(self)

        def run(self):
            pass

    class Runner:
        def bind(self, _tensors):
            return Call()

    class Work:
        copy = work.copy

        def synchronize(self):
            alive_then.append(len(calls))
            work.synchronize()

    stream._device.work = Work()
    stream.call(Runner(), {}, {"output": np.zeros((2,), np.float32)})
    assert alive_then[0] == 1
    assert not calls


def test_verify_runs_the_engines_of_a_bundle(tiny, monkeypatch):
    bundle, _ = build_plans(tiny, SMALL, Silent())
    engine = candidates.Engine(bundle, "tensorrt", "auto", None)
    spec = bundle.manifest.graphs["encode"].spec
    inputs = random_inputs(spec, sizes(1, 8, 16))
    with engine.open(["encode"]) as runs:
        for name, values in open_reference(bundle, "encode").run(inputs).items():
            np.testing.assert_allclose(runs["encode"](inputs)[name], values, rtol=1e-5)
        with pytest.raises(
            EngineUnavailableError, match="take latents of 1x8x16, the sample's is 1x16x16; give an --im"
        ):
            runs["encode"](random_inputs(spec, sizes(1, 16, 16)))
    monkeypatch.setattr(candidates, "unavailable", lambda _place: "no nvcc")
    with pytest.raises(EngineUnavailableError, match="memory of cuda:0, where nothing of ours runs: no nvcc"):
        engine.open(["encode"]).__enter__()
