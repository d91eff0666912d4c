"""The ONNX Runtime backend on raw pointers."""

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from engines.backends import BACKENDS, backend_named, choose_backend
from engines.base import EngineSettings
from engines.bundle import FileRecord, open_bundle
from engines.errors import BundleHashError, BundlePathError, EngineError, EngineUnavailableError, SettingsError
from engines.files import sha256_file
from engines.ort import OnnxRuntimeRunner, choose_provider
from tests.tiny import write_tiny_bundle


@dataclass
class HostBuffer:
    array: Any
    ptr_override: int | None = None
    device: str = "cpu"

    @property
    def ptr(self):
        return self.array.ctypes.data if self.ptr_override is None else self.ptr_override

    @property
    def shape(self):
        return self.array.shape

    @property
    def dtype(self):
        return str(self.array.dtype)

    @property
    def nbytes(self):
        return self.array.nbytes


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return open_bundle(write_tiny_bundle(tmp_path_factory.mktemp("tiny")))


def build_with(providers):
    """What is asked of a build of ONNX Runtime that is not installed."""
    return SimpleNamespace(get_available_providers=lambda: providers)


def buffers(height=8, width=16):
    rng = np.random.default_rng(0)
    return {
        "latent": HostBuffer(rng.standard_normal((1, 4, height, width), np.float32)),
        "condition": HostBuffer(rng.standard_normal((1, 4, height, width), np.float32)),
        "timestep": HostBuffer(np.full(1, 100, np.float32)),
        "control_scale": HostBuffer(np.ones(1, np.float32)),
        "output": HostBuffer(np.zeros((1, 4, height, width), np.float32)),
    }


def test_runs_in_place_and_again_without_rebinding(bundle):
    runner = backend_named("onnxruntime").open(bundle, "denoise", EngineSettings(device="cpu"))
    assert "CPUExecutionProvider" in runner.description
    tensors = buffers()
    call = runner.bind(tensors)
    for timestep in (100.0, 499.0):
        tensors["timestep"].array[:] = timestep
        call.run()
        expected = (tensors["latent"].array - tensors["condition"].array) * np.float32(timestep * 0.001)
        np.testing.assert_allclose(tensors["output"].array, expected, rtol=1e-6)
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.bind(tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("output"), "graph denoise takes .* given"),
        (lambda t: t.update(more=t["output"]), "graph denoise takes .* given"),
        (lambda t: t.update(output=HostBuffer(np.zeros((1, 4, 8, 17), np.float32))), r"expected \[1, 4, 8, 16\]"),
        (lambda t: t.update(output=HostBuffer(np.zeros((1, 4, 8, 16)))), r"float64.*expected float32"),
        (lambda t: t.update(output=HostBuffer(np.zeros((4, 8, 16), np.float32))), "expected float32"),
        (lambda t: t.update(timestep=HostBuffer(np.zeros(2, np.float32))), r"expected \[1\]"),
        (lambda t: t.update(output=HostBuffer(t["output"].array, ptr_override=0)), "at address 0"),
        (lambda t: t.update(output=HostBuffer(t["output"].array, device="cuda:0")), "output on cuda:0; copy it there"),
    ],
)
def test_wrong_buffers_are_named(bundle, change, message):
    runner = backend_named("onnxruntime").open(bundle, "denoise", EngineSettings(device="cpu"))
    tensors = buffers()
    change(tensors)
    with pytest.raises(EngineError, match=message):
        runner.bind(tensors)


def test_failure_inside_the_engine_is_named(tmp_path):
    """The tiny decode graph cannot add tensors of two sizes: AveragePool of a 3x3 image has no output."""
    runner = backend_named("onnxruntime").open(open_bundle(write_tiny_bundle(tmp_path)), "encode", EngineSettings())
    tensors = {
        "image": HostBuffer(np.zeros((1, 3, 0, 0), np.float32)),
        "latent_mean": HostBuffer(np.zeros((1, 4, 0, 0), np.float32)),
        "latent_std": HostBuffer(np.zeros((1, 4, 0, 0), np.float32)),
    }
    with pytest.raises(EngineError, match="ONNX Runtime failed in graph encode"):
        runner.bind(tensors).run()


def test_weights_outside_the_bundle_are_refused(tmp_path):
    (tmp_path / "outside.bin").write_bytes(bytes(64))
    folder = write_tiny_bundle(tmp_path / "bundle", external=("encode", "../../../outside.bin"))
    with pytest.raises(BundlePathError, match="outside the bundle"):
        backend_named("onnxruntime").open(open_bundle(folder), "encode", EngineSettings())


def test_a_graph_that_onnxruntime_refuses_is_named(tmp_path):
    folder = write_tiny_bundle(tmp_path / "bundle", external=("encode", "weights.bin"))
    with pytest.raises(BundleHashError, match=r"weights in onnx/encode/weights\.bin, which the manifest does not list"):
        backend_named("onnxruntime").open(open_bundle(folder), "encode", EngineSettings())
    weights = folder / "onnx/encode/weights.bin"
    weights.write_bytes(b"short")
    manifest = open_bundle(folder).manifest
    record = FileRecord(sha256=sha256_file(weights), size=5)
    dataclasses.replace(manifest, files={**manifest.files, "onnx/encode/weights.bin": record}).write(folder)
    with pytest.raises(EngineError, match="cannot open"):
        backend_named("onnxruntime").open(open_bundle(folder), "encode", EngineSettings())


def test_engines_by_name(bundle):
    with pytest.raises(SettingsError, match="engine must be one of auto, tensorrt, onnxruntime, not 'tvm'"):
        choose_backend("tvm", bundle, EngineSettings())
    for name in BACKENDS:
        assert choose_backend(name, bundle, EngineSettings()).name == name
    assert choose_backend("auto", bundle, EngineSettings(device="cpu")).name == "onnxruntime"


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("auto", ["CPUExecutionProvider"], "CPUExecutionProvider"),
        ("openvino", ["OpenVINOExecutionProvider"], "OpenVINOExecutionProvider"),
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], "CPUExecutionProvider"),
    ],
)
def test_device_chooses_the_provider(device, available, expected):
    assert choose_provider(EngineSettings(device=device), build_with(available)) == (expected, {})


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", ""])
def test_unknown_device_is_named(device):
    with pytest.raises(EngineUnavailableError, match="device must be auto, cpu, cuda"):
        choose_provider(EngineSettings(device=device), build_with(["CPUExecutionProvider"]))


def test_options_that_the_cpu_does_not_take():
    settings = EngineSettings(device="cpu", provider_options=(("device_id", "0"),))
    with pytest.raises(SettingsError, match="takes no options, given device_id"):
        choose_provider(settings, build_with(["CPUExecutionProvider"]))


def test_place_of_buffers():
    assert backend_named("onnxruntime").place(EngineSettings(device="cpu")) == "cpu"


def test_inputs_are_read_anew_where_onnxruntime_copies_them(bundle):
    """The CPU provider copies nothing; the same session as one of a device that does."""
    entry = bundle.manifest.graphs["denoise"]
    session = onnxruntime.InferenceSession(bundle.path(entry.file), providers=["CPUExecutionProvider"])
    tensors = buffers()
    call = OnnxRuntimeRunner(session, entry.spec, "", copies=True).bind(tensors)
    for timestep in (100.0, 499.0):
        tensors["timestep"].array[:] = timestep
        call.run()
        expected = (tensors["latent"].array - tensors["condition"].array) * np.float32(timestep * 0.001)
        np.testing.assert_allclose(tensors["output"].array, expected, rtol=1e-6)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)
def test_provider_that_is_not_installed_is_named(bundle):
    with pytest.raises(EngineUnavailableError, match=r"needs CUDAExecutionProvider.*or use --device cpu"):
        backend_named("onnxruntime").open(bundle, "encode", EngineSettings(device="cuda"))
