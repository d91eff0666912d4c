"""The command line of the build of engines, through TensorRT's stand-in: what is asked for, what is said, what is left.
Whether plans are right: test_plans.py.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time

import pytest

from engines import nvidia
from engines.bundle import open_bundle
from engines.cli import run_command
from engines.errors import EngineBuildError, EngineUnavailableError
from engines.trt_bundle import take_over
from engines.trt_plans import PLANS, Machine, planned, read_plans
from export import build
from export.engine_options import EngineRequest, parse_target
from export.plans import Steps
from export.verifying import device
from tests import tensorrt_standin
from tests.nvidia_standin import build_driver, needs_gcc, with_driver
from tests.paths import REPOSITORY
from tests.tensorrt_standin import faults
from tests.tiny import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def standin(monkeypatch, tmp_path):
    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path / "cache"))
    with tensorrt_standin.installed(monkeypatch) as module:
        yield module


def run(*arguments):
    """(exit code, standard output, standard error) of the command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command(build.main, [str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def plans_of(bundle):
    return [read_plans(path.parent) for path in sorted((bundle / PLANS).glob("[!.]*/manifest.json"))]


def test_engines_of_a_bundle(standin, bundle):
    code, out, err = run("--bundle", bundle, "--engine", "tensorrt", "--quiet")
    assert code == 0, err
    assert out == f"{bundle}\n"
    (plans,) = plans_of(bundle)
    lines = err.splitlines()
    assert lines[0] == f"TensorRT engines for {plans.machine} in {bundle / PLANS / plans.key}"
    assert [line.split(":")[0].strip() for line in lines[1:5]] == ["preprocess", "encode", "denoise", "decode"]
    assert [str(profile) for profile in plans.options.profiles] == ["1x64x64"]


def test_what_cannot_be_verified_is_told_loudly(standin, bundle, monkeypatch):
    monkeypatch.setattr("export.verifying.plan_check.unavailable", lambda _place: "there is no nvcc here")
    faults.warnings = ["Skipping tactic 0x1", "Odd thing"]
    code, _, err = run("--bundle", bundle, "--quiet")
    assert code == 0
    assert err.splitlines()[-1] == (
        "WARNING: these engines were NOT VERIFIED, no figure says that they compute what they should: there is no nvcc "
        "here"
    )
    assert "decode: 0.0 s, " in err
    assert ", not verified\n    TensorRT: tactics were skipped (1 messages)\n    TensorRT: Odd thing\n" in err
    (plans,) = plans_of(bundle)
    assert {str(record.verification) for record in plans.graphs.values()} == {
        "{'not_verified': 'there is no nvcc here'}"
    }


def test_why_plans_cannot_be_run(monkeypatch):
    from runtime import cuda, kernels

    monkeypatch.setattr(kernels, "cuda", None)
    assert "built without CUDA; install nvcc" in device.unavailable("cuda:0")
    monkeypatch.setattr(cuda, "unavailable", lambda _place: (_ for _ in ()).throw(kernels.CudaError("no driver")))
    assert device.unavailable("cuda:0") == "no driver"
    monkeypatch.setattr(cuda, "unavailable", lambda _place: "")
    assert device.unavailable("cuda:0") == ""


def test_options_reach_the_plans(standin, bundle):
    options = ["--profile", "16x16", "--profile", "1x8x8:1x16x16:2x24x24", "--optimization-level", "5"]
    options += ["--version-compatible", "--hardware-compatible", "ampere+", "--weight-streaming"]
    code, _, err = run("--bundle", bundle, *options, "--workspace", "3GiB", "--no-timing-cache", "--quiet")
    assert code == 0, err
    (plans,) = plans_of(bundle)
    assert list(map(str, plans.options.profiles)) == ["1x16x16", "1x8x8:1x16x16:2x24x24"]
    assert plans.options.optimization_level == 5
    assert plans.options.hardware_compatible == "ampere+"
    assert plans.options.version_compatible
    assert plans.options.weight_streaming
    assert {(*built["workspace"], built["cached"]) for built in faults.builds} == {(3 << 30, None)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--checkpoint", "model.ckpt"],
            "--checkpoint: what is exported, and --bundle exports nothing; leave them out",
        ),
        (["--precision", "fp16", "--out", "x"], "--precision, --out: what is exported"),
        (["--config", "c", "--context", "c"], "--config, --context: what is exported"),
        (["--static", "64x64", "--no-resume"], "--static, --no-resume: what is exported"),
        (["--engine", "onnxruntime"], "--bundle builds engines, and --engine onnxruntime needs none"),
        (["--profile", "60x64"], "profile 1x60x64 must name"),
        (["--profile", "wide"], "'wide' is no profile"),
        (["--profile", "16x64x64"], "profile 16x64x64 is beyond what the bundle's graphs take, 1x8x8:1x64x64:8x4096"),
        (["--optimization-level", "9"], "--optimization-level is 9, expected 0 to 5"),
        (["--version-compatible", "--strip-weights"], "--version-compatible and --strip-weights exclude each other"),
        (["--workspace", "much"], "'much' is not a size of memory"),
        (["--hardware-compatible", "all"], "argument --hardware-compatible: invalid choice: 'all'"),
        (["--target", "NVIDIA H200,9.0,11.4.0.26"], "--target is for --dry-run"),
        (["--dry-run", "--target", "H200"], "--target is 'H200', expected the GPU's name, its compute capability"),
    ],
)
def test_settings_that_contradict(standin, bundle, arguments, said):
    code, out, err = run("--bundle", bundle, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: SettingsError: {said}")
    assert err.count("\n") == 1
    assert faults.builds == []


def test_engine_options_without_engines():
    code, _, err = run("--engine", "onnxruntime", "--strip-weights")
    assert code == 2
    assert err.startswith("error: SettingsError: --strip-weights is for TensorRT's engines, and --engine onnxruntime")


def test_a_profile_beyond_a_static_export_is_told_before_it(standin, tmp_path):
    code, _, err = run("--static", "64x64", "--profile", "32x32", "--out", tmp_path / "out")
    assert code == 2
    assert "profile 1x32x32 is beyond what the bundle's graphs take, 1x64x64" in err
    assert not (tmp_path / "out").exists()


def test_no_bundle():
    code, _, err = run("--bundle", "nowhere", "--dry-run")
    assert code == 1
    assert err.startswith("error: BundleNotFoundError: no bundle at nowhere")


@pytest.mark.parametrize("lean", [False, True], ids=["no driver", "lean"])
def test_where_engines_cannot_be_built(monkeypatch, tmp_path, bundle, lean):
    """auto says why in one line and is done; tensorrt is refused before anything is exported."""

    def driver():
        raise EngineUnavailableError(f"no driver here; install one, {nvidia.OR_CPU}")

    exported = []
    monkeypatch.setattr("export.bundle.build", lambda settings, _reporter: exported.append(settings.out))
    with contextlib.ExitStack() as stack:
        if lean:
            stack.enter_context(tensorrt_standin.installed(monkeypatch, lean=True))
            reason = "the lean runtime of TensorRT builds no engines; run `pip install tensorrt` on the machine that"
        else:
            monkeypatch.setattr(nvidia, "driver", driver)
            reason = "no driver here; install one, or use --engine onnxruntime\n"
        for source in (["--bundle", bundle], ["--out", tmp_path / "out"]):
            code, out, err = run(*source, "--quiet")
            assert code == 0
            assert out == f"{source[1]}\n"
            assert err.startswith(
                f"NOTE: NO TENSORRT ENGINES were built, {source[1]} holds ONNX graphs for ONNX Runtime: "
            )
            assert reason in err
            assert err.count("NOTE: NO TENSORRT") == 1
        assert exported == [tmp_path / "out"]
        for source in (["--bundle", bundle], ["--out", tmp_path / "out"]):
            code, out, err = run(*source, "--engine", "tensorrt", "--quiet")
            assert (code, out) == (1, "")
            assert err.startswith(f"error: EngineUnavailableError: {reason}")
        assert exported == [tmp_path / "out"]
    code, _, err = run("--out", tmp_path / "out", "--engine", "onnxruntime", "--quiet")
    assert code == 0
    assert "TENSORRT" not in err, "none were asked for, so nothing is said"


def test_a_build_that_fails_after_the_export_leaves_the_bundle(standin, monkeypatch, tmp_path):
    out = tmp_path / "out"
    monkeypatch.setattr("export.bundle.build", lambda settings, _reporter: write_tiny_bundle(settings.out))
    faults.build_errors = ["Could not find any implementation for node {x}."]
    code, printed, err = run("--out", out, "--quiet")
    assert (code, printed) == (1, "")
    error, note = err.splitlines()
    assert error.startswith("error: EngineBuildError: TensorRT")
    assert note == f"the bundle {out} is complete without engines; `--bundle {out}` goes on from there"
    assert open_bundle(out)
    faults.build_errors = []
    assert run("--bundle", out, "--quiet")[0] == 0


def test_ctrl_c_leaves_nothing_half_written(standin, bundle, monkeypatch):
    def stage(_self, name, _done):
        if name.startswith("denoise: Timing") and not pressed:
            pressed.append(name)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)

    pressed = []
    monkeypatch.setattr("export.progress.Silent.stage", stage)
    before = signal.signal(signal.SIGTERM, build.end_like_ctrl_c)
    try:
        code, out, err = run("--bundle", bundle, "--quiet")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (code, out) == (130, "")
    assert err.startswith("interrupted\n")
    assert plans_of(bundle) == []
    (part,) = (bundle / PLANS).iterdir()
    assert sorted(path.name for path in part.glob("*.plan")) == ["encode.plan", "preprocess.plan"]
    assert run("--bundle", bundle, "--quiet")[0] == 0
    assert len(plans_of(bundle)) == 1


def test_progress_is_for_people(standin, bundle, monkeypatch):
    told = []
    steps = Steps(type("Reporter", (), {"stage": lambda _self, name, done: told.append((name, done))})())
    for step in range(1001):
        steps("encode: Timing", step / 2000)
    for step in range(1001):
        steps("decode: Timing", 0.5 + step / 2000)
    assert 40 <= len(told) <= 60
    steps("decode: built again", 0.25)
    assert told[-1] == ("decode: built again", 0.25), "it may go back"
    _, _, err = run("--bundle", bundle)
    assert "decode: TensorRT" in err


def test_what_was_finished_goes_over_to_a_build_of_other_files(standin, bundle):
    opened = open_bundle(bundle)
    machine = Machine(gpu="G", compute_capability=(9, 0), tensorrt="11.4")
    options = EngineRequest().options(opened.manifest.axes)
    before = planned(opened, machine, options)
    now = type(before)(**{**vars(before), "onnx": {**before.onnx, "decode": "another"}})
    old, new = (bundle / PLANS / f".{plans.key}.part" for plans in (before, now))
    take_over(opened, before, now)
    assert not new.exists(), "nothing was finished"
    old.mkdir(parents=True)
    for name in ("encode", "decode"):
        (old / f"{name}.json").touch()
    take_over(opened, before, now)
    assert [path.name for path in new.iterdir()] == ["encode.json"]
    assert not old.exists()
    old.mkdir()
    take_over(opened, before, now)
    assert [path.name for path in new.iterdir()] == ["encode.json"], "what is there already is kept"
    assert not old.exists()


def test_targets():
    assert parse_target("NVIDIA RTX PRO 6000, Server,12.0,10.14.1") == Machine(
        gpu="NVIDIA RTX PRO 6000, Server", compute_capability=(12, 0), tensorrt="10.14.1"
    )


NO_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "diffusers", "transformers", "safetensors"}:
            raise ModuleNotFoundError(name + " is blocked in this test", name=name)
sys.meta_path.insert(0, Blocked())
import export.plans
"""


def test_engines_are_built_without_torch():
    done = subprocess.run([sys.executable, "-c", NO_TORCH], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_that_is_missing_is_named(standin, bundle, monkeypatch):
    monkeypatch.delitem(sys.modules, "export.plans", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [
        name for name in sys.modules if name.startswith(("export.lowering", "export.verifying", "export.plan"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = run("--bundle", bundle, "--quiet")
    assert code == 1
    assert err.startswith("error: PackageMissingError: building engines needs onnx, which is not installed; run `pip")


def test_build_errors_have_their_own_name():
    from export.errors import PlanDepartsError

    error = PlanDepartsError("wrong", "decode", {})
    assert isinstance(error, EngineBuildError)
    assert (str(error), error.graph) == ("wrong", "decode")


@needs_gcc
def test_a_driver_that_fails_is_told_by_the_command(tmp_path, bundle):
    """The real command with the stand-in of the driver alone."""
    environment = os.environ | with_driver(build_driver(tmp_path), init=100)
    command = [sys.executable, "-m", "export.build", "--bundle", str(bundle), "--engine", "tensorrt"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "CUDA_ERROR_NO_DEVICE" in done.stderr
    assert "or use --engine onnxruntime" in done.stderr
    assert "--device cpu" not in done.stderr
