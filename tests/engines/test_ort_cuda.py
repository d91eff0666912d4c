"""What is CUDA's alone in the ONNX Runtime backend, as far as it goes without a GPU."""

import logging
import threading
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from engines import ort_cuda
from engines.backends import backend_named
from engines.base import DEVICE_SETUP, EngineSettings
from engines.bundle import open_bundle
from engines.errors import EngineError, EngineUnavailableError
from engines.nvidia import Driver, Gpu, driver
from engines.ort import OnnxRuntimeRunner, choose_provider
from tests.tiny import write_tiny_bundle

GPU_BUILD = SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])


def no_gpu():
    try:
        driver()
    except EngineUnavailableError:
        return True
    return False


@pytest.fixture
def two_gpus(monkeypatch):
    gpus = tuple(
        Gpu(index=i, name="NVIDIA H100", compute_capability=(9, 0), memory=80 << 30, free=None) for i in (0, 1)
    )
    monkeypatch.setattr(ort_cuda, "driver", lambda: Driver(version=(13, 0), release=None, gpus=gpus))
    monkeypatch.setattr(ort_cuda, "load_libraries", lambda ort: None)


@pytest.mark.skipif(not no_gpu(), reason="this machine has a GPU")
def test_auto_needs_more_than_a_provider():
    assert choose_provider(EngineSettings(device="auto"), GPU_BUILD) == ("CPUExecutionProvider", {})
    with pytest.raises(EngineUnavailableError, match="use --device cpu"):
        choose_provider(EngineSettings(device="cuda"), GPU_BUILD)


@pytest.mark.parametrize(("device", "index"), [("auto", "0"), ("cuda", "0"), ("cuda:1", "1")])
def test_which_gpu(two_gpus, device, index):
    settings = EngineSettings(device=device)
    assert choose_provider(settings, GPU_BUILD) == ("CUDAExecutionProvider", {"device_id": index})


def test_a_gpu_that_is_not_there(two_gpus):
    with pytest.raises(EngineUnavailableError, match=r"no GPU 5 .*use one of cuda:0 \(NVIDIA H100\), cuda:1 \(NVIDIA"):
        choose_provider(EngineSettings(device="cuda:5"), GPU_BUILD)


def test_auto_says_why_a_gpu_is_not_used(two_gpus, monkeypatch, caplog):
    def missing(ort):
        raise EngineUnavailableError("libcudnn.so.9 is missing")

    monkeypatch.setattr(ort_cuda, "load_libraries", missing)
    assert choose_provider(EngineSettings(device="auto"), GPU_BUILD)[0] == "CPUExecutionProvider"
    assert "the GPU is not used: libcudnn.so.9 is missing" in caplog.text


def test_the_users_options_win(two_gpus):
    settings = EngineSettings(device="cuda:1", stream=4096, provider_options=(("use_tf32", "1"), ("device_id", "0")))
    options = ort_cuda.provider_options(settings, lowered=True)
    assert options["use_tf32"] == "1"
    assert options["device_id"] == "0"
    assert options["user_compute_stream"] == "4096"
    assert options["prefer_nhwc"] == "1"
    options = ort_cuda.provider_options(EngineSettings(device="cuda:1"), lowered=False)
    assert options["device_id"] == "1"
    assert options["prefer_nhwc"] == "0"
    assert "user_compute_stream" not in options


def test_a_graph_with_nodes_on_the_cpu_is_opened_without_cuda_graphs(caplog):
    given = []

    def opened(options):
        given.append(options["enable_cuda_graph"])
        if options["enable_cuda_graph"] == "1":
            why = (
                "This session cannot use the graph capture feature as requested by the user as all compute graph nodes"
            )
            raise EngineError(f"ONNX Runtime cannot open x: {why}") from RuntimeError(why)
        return "session"

    with caplog.at_level(logging.INFO, "dossr"):
        assert ort_cuda.open_session(opened, {"enable_cuda_graph": "1"}, "decode") == ("session", False)
    assert given == ["1", "0"]
    assert "graph decode runs without a CUDA graph: This session cannot use" in caplog.text


def test_other_refusals_stay(caplog):
    def opened(options):
        raise EngineError("ONNX Runtime cannot open x: no kernel")

    with pytest.raises(EngineError, match="no kernel"):
        ort_cuda.open_session(opened, {"enable_cuda_graph": "1"}, "decode")


class Recorded:
    """A session that writes down how it is run."""

    def __init__(self):
        self.runs = []

    def run_with_iobinding(self, binding, options):
        recorded = options.get_run_config_entry("gpu_graph_id")
        free = DEVICE_SETUP.acquire(blocking=False)
        if free:
            DEVICE_SETUP.release()
        self.runs.append((binding, int(recorded), free, threading.get_ident()))


def test_graphs_are_recorded_after_regular_runs_in_one_thread():
    session = Recorded()
    cuda = ort_cuda.CudaSession(onnxruntime, session, graphs=True, wait=False)
    calls = [cuda.repeated("a"), cuda.repeated("b")]
    for _ in range(ort_cuda.REGULAR_RUNS + 2):
        for call in calls:
            other = threading.Thread(target=call)
            other.start()
            other.join()
    cuda.run("c")
    cuda.close()
    of_a, of_b = ([run[1:3] for run in session.runs if run[0] == name] for name in "ab")
    regular = [(-1, False), *[(-1, True)] * (ort_cuda.REGULAR_RUNS - 1)]
    assert of_a == [*regular, (1, False), (1, True)]  # the lock is taken while memory is taken or a graph recorded
    assert of_b == [*regular, (2, False), (2, True)]
    assert session.runs[-1][:2] == ("c", -1)
    assert len({thread for *_, thread in session.runs}) == 1


@pytest.mark.parametrize("graphs", [True, False])
def test_graphs_of_one_session_are_few(monkeypatch, caplog, graphs):
    monkeypatch.setattr(ort_cuda, "MAX_GRAPHS", 2)
    monkeypatch.setattr(ort_cuda, "REGULAR_RUNS", 0)
    session = Recorded()
    cuda = ort_cuda.CudaSession(onnxruntime, session, graphs=graphs, wait=True)
    with caplog.at_level(logging.INFO, "dossr"):
        for name in "abcd":
            cuda.repeated(name)()
    cuda.close()
    assert [run[1] for run in session.runs] == ([1, 2, -1, -1] if graphs else [-1] * 4)
    assert caplog.text.count("run without") == int(graphs)


def test_errors_come_out_of_the_sessions_thread():
    class Broken:
        def run_with_iobinding(self, binding, options):
            raise RuntimeError("CUDA failure 700")

    cuda = ort_cuda.CudaSession(onnxruntime, Broken(), graphs=True, wait=True)
    with pytest.raises(RuntimeError, match="CUDA failure 700"):
        cuda.repeated("a")()
    cuda.close()


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers() or not no_gpu(),
    reason="needs onnxruntime-gpu on a machine without a GPU",
)
def test_a_gpu_build_without_a_driver(tmp_path, capfd):
    bundle = open_bundle(write_tiny_bundle(tmp_path))
    backend = backend_named("onnxruntime")
    with pytest.raises(EngineUnavailableError, match=r"libcuda\.so\.1.*use --device cpu"):
        backend.open(bundle, "denoise", EngineSettings(device="cuda"))
    with pytest.raises(
        EngineUnavailableError, match=r"CUDAExecutionProvider of ONNX Runtime .* did not load: lib.*run `pip"
    ):
        ort_cuda.load_libraries(onnxruntime)
    runner = backend.open(bundle, "denoise", EngineSettings())
    assert "CPUExecutionProvider" in runner.description
    assert backend.place(EngineSettings()) == "cpu"
    out, err = capfd.readouterr()
    assert not out
    assert not err


def test_where_buffers_may_be(tmp_path):
    """A session of a GPU takes host memory, or all of it on that GPU."""
    bundle = open_bundle(write_tiny_bundle(tmp_path))
    spec = bundle.manifest.graphs["denoise"].spec
    session = onnxruntime.InferenceSession(
        bundle.path(bundle.manifest.graphs["denoise"].file), providers=["CPUExecutionProvider"]
    )
    cuda = ort_cuda.CudaSession(onnxruntime, session, graphs=True, wait=True)
    runner = OnnxRuntimeRunner(session, spec, "", copies=True, cuda=cuda, place="cuda:1")
    host = {
        name: np.full(shape, value, np.float32)
        for name, shape, value in (
            ("latent", (1, 4, 8, 8), 3),
            ("condition", (1, 4, 8, 8), 1),
            ("timestep", (1,), 1000),
            ("control_scale", (1,), 1),
            ("output", (1, 4, 8, 8), 0),
        )
    }

    def on(device):
        return {
            name: SimpleNamespace(
                ptr=array.ctypes.data, shape=array.shape, dtype="float32", nbytes=array.nbytes, device=device
            )
            for name, array in host.items()
        }

    runner.bind(on("cpu")).run()
    assert (host["output"] == 2).all()
    mixed = {**on("cuda:1"), "output": on("cpu")["output"]}
    for tensors in (on("cuda:0"), mixed):
        with pytest.raises(EngineError, match=r"binds host memory or memory of cuda:1, given latent on"):
            runner.bind(tensors)
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.bind(on("cpu"))
