"""Run by test_trt_pictures.py with the plugin tests.cuda_on_host.plugin: the TensorRT backend on the stand-ins of CUDA
and TensorRT, against ONNX Runtime's numbers.
"""

import dataclasses

import numpy as np
import pytest

import runtime
from engines.base import EngineSettings
from engines.bundle import open_bundle
from engines.errors import BundleHashError, EngineError, EngineUnavailableError, ImageTooLargeError, SettingsError
from engines.profiles import parse_profile
from engines.trt import TensorRT
from engines.trt_bundle import build_engines
from engines.trt_options import PlanOptions
from engines.trt_plans import PLANS
from runtime.devices import open_device
from tests import tensorrt_standin
from tests.cuda_on_host.plugin import machine
from tests.tensorrt_standin import VERSION, faults, running
from tests.tiny import write_tiny_bundle

OPTIONS = PlanOptions(
    profiles=(parse_profile("16x24"), parse_profile("4x16x24"), parse_profile("1x8x8:1x16x16:1x32x32"))
)


def photo(width=40, height=24, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def pixels(result):
    return bytes(memoryview(result.pixels))


@pytest.fixture
def standin(monkeypatch, tmp_path):
    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(running, "on_stream", [machine.run])
    with tensorrt_standin.installed(monkeypatch) as module:
        yield module


@pytest.fixture
def bundle(tmp_path):
    return open_bundle(write_tiny_bundle(tmp_path / "bundle", external=None))


def build(bundle, options=OPTIONS, **changes):
    options = dataclasses.replace(options, **changes)
    return build_engines(bundle, 0, options, watch=lambda _what, _done: None)


def upscaler(bundle, **settings):
    return runtime.Upscaler(bundle.folder, **{"engine": "tensorrt", "fallback": "none"} | settings)


def expected(bundle, picture, **settings):
    with runtime.Upscaler(bundle.folder, device="cpu", engine="onnxruntime") as cpu:
        return pixels(cpu(picture, **settings))


@pytest.mark.parametrize(
    "changes",
    [{}, {"version_compatible": True}, {"strip_weights": True}, {"weight_streaming": True}],
    ids=["plain", "version", "stripped", "streamed"],
)
def test_pictures_are_those_of_onnx_runtime(standin, bundle, changes):
    plans = build(bundle, **changes)
    with upscaler(bundle) as trt:
        assert trt.description.startswith(f"tensorrt {VERSION}, cuda:0, engine {plans.key}, bundle ")
        for seed in (1, 2, 3):
            result = trt(photo(), steps=3, seed=seed)
            assert pixels(result) == expected(bundle, photo(), steps=3, seed=seed)
            assert result.replayed == (seed > 1), "the second is recorded, and launched as the third"


def test_auto_takes_engines_that_fit(standin, bundle, caplog):
    with upscaler(bundle, engine="auto") as plain:
        assert plain.description.startswith("onnxruntime")
    assert "TensorRT" not in caplog.text, "no engines, no word"
    build(bundle)
    with upscaler(bundle, engine="auto") as trt:
        assert trt.description.startswith("tensorrt")
    with upscaler(bundle, engine="auto", device="cpu") as cpu:
        assert cpu.description.startswith("onnxruntime")


def test_auto_says_why_engines_go_unused(standin, bundle, caplog):
    plans = build(bundle)
    manifest = bundle.folder / PLANS / plans.key / "manifest.json"
    manifest.write_text(manifest.read_text().replace(tensorrt_standin.GPU, "Another GPU"))
    with upscaler(bundle, engine="auto") as plain:
        assert plain.description.startswith("onnxruntime")
    assert "the bundle's TensorRT engines are not used" in caplog.text
    assert "they are for Another GPU sm90" in caplog.text


def test_sizes_and_batches_are_those_of_the_profiles(standin, bundle):
    build(bundle, profiles=tuple(map(parse_profile, ("16x24", "4x16x24", "32x32"))))
    with upscaler(bundle) as trt:
        small = [photo(20, 12, seed) for seed in range(4)]
        alone = [pixels(trt(picture)) for picture in small]
        assert [pixels(result) for result in trt.stream(small, batch=4)] == alone
        assert [pixels(result) for result in trt.stream(small[:3], batch=3)] == alone[:3]
        with pytest.raises(ImageTooLargeError, match="takes at most 48x32 or 64x64; crop it"):
            trt(photo(80, 20), tile=None)
        with pytest.raises(SettingsError, match=r"batch must be a whole number in 1\.\.4"):
            next(trt.stream(small, batch=5))


def test_engines_of_a_stream_share_one_arena(standin, bundle):
    build(bundle)
    with upscaler(bundle) as trt:
        trt(photo())
        backend = trt._ways._backend
        (arena,) = backend._arenas.values()
        most = running.ARENA_BYTES_A_PIXEL * 3 * (8 * 16) * (8 * 24)  # encode's input
        assert arena.nbytes == most
        version = arena.version
        assert trt(photo()).replayed
        assert (arena.nbytes, arena.version) == (most, version), "it does not move any more"
        before = machine.alive()
        trt(photo(60, 60))
        assert arena.nbytes == running.ARENA_BYTES_A_PIXEL * 3 * 256 * 256
        assert arena.version > version
        assert not trt(photo(), seed=2).replayed, "the graph would work in the old arena"
        assert pixels(trt(photo(), seed=3)) == expected(bundle, photo(), seed=3), "calls bound before follow the arena"
        assert machine.alive() >= before
    assert arena.nbytes == 0


def call_of(backend, bundle, graph="decode"):
    settings = EngineSettings(device="cuda:0")
    device = open_device("cuda:0")
    settings = dataclasses.replace(
        settings, stream=device.stream, memory=lambda nbytes: device.tensor((nbytes,), "uint8")
    )
    runner = backend.open(bundle, graph, settings)
    tensors = {"latent": device.tensor((1, 4, 16, 24)), "image": device.tensor((1, 3, 128, 192))}
    return runner, tensors


def test_a_call_is_recordable_after_its_first_run(standin, bundle):
    build(bundle)
    runner, tensors = call_of(TensorRT(), bundle)
    call = runner.bind(tensors)
    assert not call.recordable
    call.run()
    assert call.recordable
    assert call.version == call.version
    runner.close()
    with pytest.raises(EngineError, match="graph decode is closed"):
        runner.bind(tensors)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"no_context": True}, "refuses an execution context of graph decode"),
        (
            {"refused": {"set_optimization_profile_async": "Error in set profile"}},
            "refuses Error in set profile of graph",
        ),
        ({"refused": {"infer_shapes": "Error in infer shapes"}}, "refuses Error in infer shapes of graph decode"),
        ({"enqueue_error": "OutOfMemory"}, "failed in graph decode: OutOfMemory .*if memory ran out"),
    ],
)
def test_what_fails_is_told(standin, bundle, fault, message):
    build(bundle)
    runner, tensors = call_of(TensorRT(), bundle)
    for name, value in fault.items():
        setattr(faults, name, value)
    with pytest.raises(EngineError, match=message):
        runner.bind(tensors).run()


def test_buffers_elsewhere_are_refused(standin, bundle):
    build(bundle)
    backend = TensorRT()
    runner, tensors = call_of(backend, bundle)
    host = {name: runtime.kernels.Tensor(tensor.shape) for name, tensor in tensors.items()}
    with pytest.raises(EngineError, match=r"takes memory of cuda:0 and a stream there, given latent on cpu"):
        runner.bind(host)
    without = backend.open(bundle, "decode", EngineSettings(device="cuda:0"))
    with pytest.raises(EngineError, match="and no stream; it needs our CUDA kernels"):
        without.bind(tensors)


def test_shapes_outside_every_profile(standin, bundle):
    build(bundle)
    runner, _ = call_of(TensorRT(), bundle)
    device = open_device("cuda:0")
    wrong = {"latent": device.tensor((1, 4, 40, 40)), "image": device.tensor((1, 3, 320, 320))}
    with pytest.raises(EngineError, match=r"no profile of the engine of graph decode takes .*build engines with"):
        runner.bind(wrong)


def test_contexts_without_an_arena(standin, bundle):
    build(bundle)
    device = open_device("cuda:0")
    runner = TensorRT().open(bundle, "decode", EngineSettings(device="cuda:0", stream=device.stream))
    _, tensors = call_of(TensorRT(), bundle)
    call = runner.bind(tensors)
    call.run()
    assert call.version == 0


def test_a_changed_plan_is_refused_each_time(standin, bundle):
    plans = build(bundle)
    path = bundle.folder / PLANS / plans.key / "encode.plan"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(BundleHashError, match=r"encode\.plan is not what was built .* --engine tensorrt` again"):
            upscaler(bundle)
    path.unlink()
    with pytest.raises(BundleHashError, match=r"encode\.plan cannot be read"):
        upscaler(bundle)


def test_a_plan_that_tensorrt_refuses(standin, bundle):
    build(bundle)
    faults.cannot_open = "The engine plan file is generated on an incompatible device"
    with pytest.raises(EngineError, match=r"cannot open .*preprocess\.plan: .*run `python -m export\.build --bundle"):
        upscaler(bundle)


def test_a_stripped_plan_without_its_weights(standin, bundle):
    build(bundle, strip_weights=True)
    faults.missing_weights = ["gone"]
    with pytest.raises(
        EngineError, match=r"lacks 1 weights .* gone among them \(gone is not in the file\); build the engines again"
    ):
        upscaler(bundle)
    faults.missing_weights = []
    faults.unnamed_constants = True
    with upscaler(bundle) as trt:
        assert pixels(trt(photo())) == expected(bundle, photo()), "constants without a name are no weights"
    faults.refit_error = "no"
    with pytest.raises(EngineError, match=r"cannot put in the weights of .*: no; build the engines again"):
        upscaler(bundle)


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (1 << 30, ", 1.0 MiB of weights streamed from the host, bundle"),
        ((1 << 30) + 4096 + (1 << 19), ", 512 KiB of weights streamed from the host, bundle"),
        ((1 << 30) + 4096 + (1 << 20), ", bundle"),
        (None, ", bundle"),
    ],
)
def test_weights_are_streamed_where_memory_is_short(standin, bundle, free, words):
    plans = build(bundle, weight_streaming=True)
    faults.free = free
    with upscaler(bundle) as trt:
        assert plans.key + words in trt.description
        assert pixels(trt(photo())) == expected(bundle, photo())


def test_memory_for_shapes_that_is_not_told_is_the_profiles(standin, bundle):
    build(bundle)
    faults.no_memory_size = True
    with upscaler(bundle) as trt:
        for _ in range(3):
            assert pixels(trt(photo(60, 60))) == expected(bundle, photo(60, 60))
        (arena,) = trt._ways._backend._arenas.values()
        assert arena.nbytes == running.ARENA_BYTES_A_PIXEL * 3 * 256 * 256


def test_memory_that_is_refused_is_an_error_each_time(standin, bundle):
    build(bundle)
    runner, tensors = call_of(TensorRT(), bundle)
    call = runner.bind(tensors)
    faults.memory_refused = "the memory is not aligned"
    for _ in range(2):
        with pytest.raises(EngineError, match=r"does not take .* of memory for graph decode: .*is not aligned; build"):
            call.run()
    faults.memory_refused = ""
    call.run()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("Runtime", "runtime"),
        ("Refitter", "refitter of a stripped engine"),
        ("OnnxParserRefitter", "reader of a stripped engine's weights"),
    ],
)
def test_objects_that_are_not_made(standin, bundle, kind, what):
    build(bundle, strip_weights=True)
    faults.not_made = {kind: "CUDA initialization failure with error: 35"}
    with pytest.raises(EngineError, match=rf"makes no {what}: CUDA initialization .* \(update NVIDIA's driver"):
        upscaler(bundle)


def test_the_lean_runtime_takes_version_compatible_plans_alone(monkeypatch, tmp_path, bundle):
    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(running, "on_stream", [machine.run])
    with tensorrt_standin.installed(monkeypatch):
        build(bundle)
    with (
        tensorrt_standin.installed(monkeypatch, lean=True),
        pytest.raises(EngineUnavailableError, match="lean runtime takes version-compatible plans alone"),
    ):
        upscaler(bundle)
    with tensorrt_standin.installed(monkeypatch):
        build(bundle, strip_weights=True)
    with (
        tensorrt_standin.installed(monkeypatch, lean=True),
        pytest.raises(EngineUnavailableError, match="cannot put weights in: build with --version-compatible, without"),
    ):
        upscaler(bundle)
    with tensorrt_standin.installed(monkeypatch):
        build(bundle, version_compatible=True)
    with tensorrt_standin.installed(monkeypatch, lean=True), upscaler(bundle) as lean:
        assert lean.description.startswith(f"tensorrt lean {VERSION}")
        assert pixels(lean(photo())) == expected(bundle, photo())


def test_missing_engines_are_built_where_that_is_asked_for(standin, bundle, caplog):
    with pytest.raises(EngineUnavailableError, match="no TensorRT engines for Stand-in H200"):
        upscaler(bundle)
    for engine in ("auto", "tensorrt"):
        with upscaler(bundle, engine=engine, rebuild_engines=True) as trt:
            assert trt.description.startswith("tensorrt")
    assert caplog.text.count("building TensorRT engines for Stand-in H200") == 1
    assert len(faults.builds) == len(bundle.manifest.graphs)


def test_settings_that_are_not_tensorrts(standin, bundle):
    build(bundle)
    with pytest.raises(SettingsError, match="TensorRT takes no provider options, given use_tf32"):
        upscaler(bundle, provider_options={"use_tf32": "1"})
    with pytest.raises(EngineUnavailableError, match="TensorRT runs on NVIDIA GPUs, not on 'cpu'"):
        upscaler(bundle, device="cpu")
    with pytest.raises(EngineUnavailableError, match=r"there is no GPU 3 .* use one of cuda:0 \(Stand-in H200\)"):
        upscaler(bundle, device="cuda:3")


def test_a_memory_budget_is_kept(standin, bundle):
    build(bundle)
    with upscaler(bundle, max_memory="3GiB") as trt:
        assert pixels(trt(photo())) == expected(bundle, photo())
