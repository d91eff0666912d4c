"""NVIDIA's real lean runtime, on machines with and without a driver."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import engines
import runtime
from engines import nvidia
from engines.base import EngineSettings
from engines.errors import EngineUnavailableError
from engines.trt import TensorRT
from engines.trt_plans import Machine
from tests.tensorrt_standin import forgotten

if sys.platform != "linux":
    pytest.skip("the wheel is for Linux", allow_module_level=True)
import tensorrt_lean

RUN_SIDE = ("library", "log", "objects", "monitor", "tensors", "run")
"""Modules that work with the lean runtime, besides engines.trt itself."""
KINDS = {
    "engine": tensorrt_lean.ICudaEngine,
    "context": tensorrt_lean.IExecutionContext,
    "_context": tensorrt_lean.IExecutionContext,
    "runtime": tensorrt_lean.Runtime,
}
"""What variables of these names hold."""


def has_driver():
    try:
        nvidia.driver()
    except EngineUnavailableError:
        return False
    return True


def uses():
    """(module, object, attribute) of all that run-side modules use of the library."""
    for name in ("trt", *(f"trt_{part}" for part in RUN_SIDE)):
        tree = ast.parse((Path(engines.__file__).parent / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            holder = node.value
            if isinstance(holder, ast.Attribute) and isinstance(holder.value, ast.Name):
                if holder.value.id in ("trt", "tensorrt"):
                    yield name, f"trt.{holder.attr}", getattr(tensorrt_lean, holder.attr), node.attr
                elif holder.attr in KINDS:
                    yield name, holder.attr, KINDS[holder.attr], node.attr
            elif isinstance(holder, ast.Name) and holder.id in ("trt", "tensorrt"):
                yield name, "trt", tensorrt_lean, node.attr
            elif isinstance(holder, ast.Name) and holder.id in KINDS:
                yield name, holder.id, KINDS[holder.id], node.attr


def test_all_that_is_used_exists():
    found = list(uses())
    missing = [
        f"{module}.py: {words}.{attribute}" for module, words, kind, attribute in found if not hasattr(kind, attribute)
    ]
    assert not missing
    names = {attribute for *_, attribute in found}
    assert {
        "execute_async_v3",
        "set_device_memory",
        "deserialize_cuda_engine",
        "update_device_memory_size_for_shapes",
    } <= names


def test_it_imports_without_numpy_and_without_a_driver():
    code = """
import sys
sys.modules["tensorrt"] = None
from engines import trt, trt_library, trt_log, trt_monitor, trt_objects, trt_run, trt_tensors
assert trt_library.IS_LEAN
with trt_log.LOG.collecting() as said:
    trt_log.LOG.log(trt_library.trt.ILogger.WARNING, "a word")
    trt_log.LOG.log(trt_library.trt.ILogger.INFO, "not this one")
assert [(message.severe, message.text) for message in said] == [(False, "a word")]
monitor = trt_monitor.Monitor(lambda what, done: print(what, done))
monitor.phase_start("Building", None, 2)
assert monitor.step_complete("Building", 0)
monitor.cancel()
assert not monitor.step_complete("Building", 1)
assert "numpy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Building 0.0", "Building 0.5", "Building 1.0"]


@pytest.mark.skipif(has_driver(), reason="there is a driver")
def test_without_a_driver_there_is_our_error_and_no_crash(bundle):
    for work in (
        lambda: runtime.Upscaler(bundle.folder, engine="tensorrt"),
        lambda: TensorRT().open(bundle, "decode", EngineSettings()),
        lambda: TensorRT().prepare(EngineSettings()),
        lambda: TensorRT().profiles(bundle, EngineSettings()),
    ):
        with pytest.raises(
            EngineUnavailableError, match=r"the NVIDIA driver, does not load .*, or use --engine onnxruntime$"
        ):
            work()
    assert not TensorRT().usable(bundle, EngineSettings())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"tensorrt": None, "tensorrt_lean": None}, "TensorRT is not installed; run `pip install tensorrt`, or"),
        ({"tensorrt": "import absent_library"}, r"tensorrt is installed and does not load \(it needs absent_library\)"),
        (
            {"tensorrt": "raise OSError('libnvinfer.so.11: no such file')"},
            r"does not load \(libnvinfer\.so\.11: no such",
        ),
    ],
)
def test_a_library_that_is_not_there_or_broken(monkeypatch, tmp_path, broken, message):
    for name, source in broken.items():
        if source is None:
            monkeypatch.setitem(sys.modules, name, None)
        else:
            monkeypatch.delitem(sys.modules, name, raising=False)
            (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with forgotten(), pytest.raises(EngineUnavailableError, match=message):
        import engines.trt_library  # noqa: F401


def test_the_machine_is_a_gpu_with_this_library(standin):
    from engines.trt_library import machine

    assert machine(0) == Machine(gpu="Stand-in H200", compute_capability=(9, 0), tensorrt="11.4.0.26")
    with pytest.raises(EngineUnavailableError, match=r"there is no GPU 1; use one of cuda:0 \(Stand-in H200\)"):
        machine(1)
