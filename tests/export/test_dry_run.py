"""What a dry run says, on a machine without TensorRT's builder and without a GPU."""

import dataclasses
import subprocess
import sys

import onnx
import pytest
from onnx import helper

from engines import nvidia
from engines.bundle import FileRecord, open_bundle
from engines.errors import EngineUnavailableError
from engines.files import sha256_file
from engines.profiles import parse_profile
from engines.trt_bundle import build_engines
from engines.trt_options import PlanOptions
from engines.trt_plans import PLANS, planned
from export.dry_run import Target, plan_of_bundle, target
from export.engine_options import EngineRequest, parse_target
from tests import tensorrt_standin
from tests.paths import REPOSITORY
from tests.tiny import write_tiny_bundle

H200 = "NVIDIA H200,9.0,11.4.0.26"


@pytest.fixture
def bundle(tmp_path):
    return open_bundle(write_tiny_bundle(tmp_path / "bundle"))


@pytest.fixture(autouse=True)
def own_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_driver(monkeypatch):
    def driver():
        raise EngineUnavailableError(f"no driver here; install one, {nvidia.OR_CPU}")

    monkeypatch.setattr(nvidia, "driver", driver)


def plan(bundle, to, **request):
    """Lines by their first word, and all of them."""
    lines = list(plan_of_bundle(bundle, EngineRequest(**request), to))
    assert all(len(line) < 250 for line in lines)
    return {line[:20].strip(): line[20:].strip() for line in lines}, lines


def test_for_a_named_machine_all_is_known(bundle, tmp_path):
    machine = parse_target(H200)
    options = PlanOptions(profiles=(parse_profile("1x8x8:1x16x16:2x24x24"),), strip_weights=True)
    said, lines = plan(bundle, target(machine), profiles=options.profiles, strip_weights=True, workspace=3 << 30)
    key = planned(bundle, machine, options).key
    assert said["for"] == "NVIDIA H200 (9.0) with TensorRT 11.4.0.26"
    assert said["network flags"] == "STRONGLY_TYPED"
    assert said["builder flags"] == "STRIP_PLAN, REFIT_IDENTICAL, no TF32"
    assert said["preview features"] == "RUNTIME_ACTIVATION_RESIZE_10_10"
    assert said["workspace"] == "3.0 GiB at most for one kernel"
    assert said["timing cache"] == str(tmp_path / "cache" / "tensorrt" / "timing-nvidia-h200-sm90-11.4.0.26.cache")
    assert said["key"] == key
    assert said["folder"] == str(bundle.folder / PLANS / key)
    assert said["plans that fit"] == "none yet"
    assert any(line.startswith("  built of          onnx/decode/model.onnx, weights ") for line in lines)
    assert "  profile 0         latent float32: min [1, 4, 8, 8] opt [1, 4, 16, 16] max [2, 4, 24, 24]" in lines
    assert "  profile 0         timestep float32: min [1] opt [1] max [1]" in lines
    assert said["gpu"] == "NVIDIA H200 sm90"
    assert said["onnx decode"].startswith("sha256 ")


def test_what_is_not_known_of_this_machine_is_told(bundle, no_driver, monkeypatch):
    with tensorrt_standin.forgotten():
        for package in ("tensorrt", "tensorrt_lean"):
            monkeypatch.setitem(sys.modules, package, None)
        found = target(None)
    assert set(found.unknown) == {"gpu", "tensorrt"}
    said, lines = plan(bundle, found)
    assert said["for"] == "this machine"
    assert "  the GPU is not known: no driver here" in lines
    assert "  the version of TensorRT is not known: TensorRT is not installed" in lines
    assert said["key"].startswith("not known here for want of the GPU and the version of TensorRT: pass --target")
    assert said["gpu"] == said["tensorrt"] == "not known here"
    assert said["workspace"].startswith("what is free on the GPU but a tenth")
    assert said["timing cache"] == "one file for each GPU and version of TensorRT"
    assert said["plans so far"] == "none"


def test_plans_for_every_gpu_need_only_the_version(bundle):
    here = Target(machine=parse_target(H200), unknown={"gpu": "no driver"})
    said, _ = plan(bundle, here, hardware_compatible="ampere+")
    assert said["key"].startswith("ampere+-trt11.4-fp32-")
    assert said["gpu"] == "ampere+"
    said, _ = plan(bundle, here, hardware_compatible="same-cc", timing_cache=False)
    assert said["key"].startswith("not known here for want of the GPU: pass --target")
    assert said["timing cache"] == "none"


def test_on_the_machine_itself(bundle, monkeypatch):
    with tensorrt_standin.installed(monkeypatch):
        here = target(None)
        assert (str(here), here.unknown) == ("Stand-in H200 (9.0) with TensorRT 11.4.0.26", {})
        said, _ = plan(bundle, here)
        assert said["workspace"] == "126 GiB at most for one kernel, from the 140 GiB that are free now"
        plans = build_engines(bundle, 0, EngineRequest().options(bundle.manifest.axes), watch=lambda *_: None)
        said, _ = plan(bundle, here)
        folder = str(bundle.folder / PLANS / plans.key)
        assert said["plans that fit"] == folder
        assert said["folder"] == f"{folder}, which is there and would be replaced"
        said, _ = plan(bundle, Target(machine=here.machine, unknown={"gpu": "?"}))
        assert said["plans so far"] == plans.key


def dry(module, *arguments):
    command = [sys.executable, *module, *map(str, arguments), "--dry-run"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)


def test_the_commands(bundle):
    before = sorted(bundle.folder.rglob("*"))
    for module in (
        ["-m", "export.build"],
        ["-c", "import sys; from runtime.dossr import main; sys.exit(main())", "build"],
    ):
        done = dry(module, "--bundle", bundle.folder, "--target", H200)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert "\nkey                 nvidia-h200-sm90-trt11.4-fp32-" in done.stdout
    assert sorted(bundle.folder.rglob("*")) == before


def test_what_tensorrt_does_not_take_is_told_with_exit_code_1(bundle):
    path = bundle.path("onnx/decode/model.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Det", ["latent"], ["determinant"], "the_det"))
    path.write_bytes(model.SerializeToString())
    record = FileRecord(sha256=sha256_file(path), size=path.stat().st_size)
    files = bundle.manifest.files | {"onnx/decode/model.onnx": record}
    dataclasses.replace(bundle.manifest, files=files).write(bundle.folder)
    done = dry(["-m", "export.build"], "--bundle", bundle.folder, "--target", H200)
    assert done.returncode == 1
    assert "  operators         TensorRT does not take them all:\n    Det (the_det): " in done.stdout
    assert done.stderr.startswith("error: EngineBuildError: TensorRT 11.4.0.26 does not take the graphs of ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", H200], "\ngraph denoise\n  profile 0         latent float32: min [1, 4, 64, 64]"),
        (["--split-controlnet"], "graphs              preprocess, encode, controlnet, unet, decode; condition, if it"),
        (["--static", "32x48"], "image float32: min [1, 3, 256, 384] opt [1, 3, 256, 384] max [1, 3, 256, 384]"),
        (["--engine", "onnxruntime"], "\nengines             none: --engine onnxruntime\n"),
        (
            ["--engine", "tensorrt"],
            "\nkey                 known once the graphs are exported: it covers their hashes\n",
        ),
    ],
)
def test_of_a_checkpoint_nothing_is_exported(tmp_path, options, said):
    done = dry(["-X", "importtime", "-m", "export.build"], "--out", tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("export              ")
    assert f"model.ckpt to {tmp_path / 'out'}, fp16, " in done.stdout
    assert said in done.stdout
    assert "| torch\n" not in done.stderr, "torch is not imported"
    assert not list(tmp_path.glob("out*"))


def test_a_checkpoint_that_is_not_there(tmp_path):
    done = dry(["-m", "export.build"], "--checkpoint", tmp_path / "none.ckpt")
    assert done.returncode == 1
    assert done.stderr.startswith("error: CheckpointNotFoundError: cannot read --checkpoint")
