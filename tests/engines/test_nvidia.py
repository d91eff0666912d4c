"""The driver through ctypes: stand-in libraries loaded by child processes, and this machine's own."""

import ctypes
import json
import os
import subprocess
import sys

import pytest

from tests.nvidia_standin import FREE, MEMORY, NAMES, build_driver, build_stranger, needs_gcc, with_driver
from tests.paths import REPOSITORY

ASK = """
import dataclasses, json
from engines.errors import EngineUnavailableError
from engines.nvidia import driver
try:
    assert driver() is driver()
    print(json.dumps(dataclasses.asdict(driver())))
except EngineUnavailableError as error:
    print(json.dumps(str(error)))
"""


def asked(environment=None):
    """What a fresh process gets: the driver as a dictionary, or the error's text."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=REPOSITORY,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def gpu(index, which, free=True):
    return {
        "index": index,
        "name": NAMES[which],
        "compute_capability": [[9, 0], [7, 5]][which],
        "memory": MEMORY[which],
        "free": FREE[which] if free else None,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_driver(tmp_path_factory.mktemp("driver"))


@needs_gcc
def test_two_gpus(folder):
    found = asked(with_driver(folder, cuda=13010))
    assert found == {"version": [13, 1], "release": "580.95.05", "gpus": [gpu(0, 0), gpu(1, 1)]}


@needs_gcc
@pytest.mark.parametrize(("devices", "expected"), [("1,0", [gpu(0, 1), gpu(1, 0)]), ("1", [gpu(0, 1)])])
def test_free_memory_is_of_the_gpu_that_cuda_counts(folder, devices, expected):
    assert asked(with_driver(folder, devices=devices))["gpus"] == expected


@needs_gcc
def test_without_nvml(tmp_path):
    found = asked(with_driver(build_driver(tmp_path, nvml=False)))
    assert found["release"] is None
    assert found["gpus"] == [gpu(0, 0, free=False), gpu(1, 1, free=False)]


@needs_gcc
def test_an_old_driver_has_no_free_memory(tmp_path):
    found = asked(with_driver(build_driver(tmp_path, "-DOLD"), cuda=11020))
    assert found["version"] == [11, 2]
    assert found["release"] == "580.95.05"
    assert found["gpus"] == [gpu(0, 0, free=False), gpu(1, 1, free=False)]


@needs_gcc
@pytest.mark.parametrize(
    ("code", "name", "advice"),
    [
        (100, "CUDA_ERROR_NO_DEVICE (100)", "CUDA_VISIBLE_DEVICES"),
        (35, "cudaErrorInsufficientDriver (35)", "release 580"),
        (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "restart"),
        (804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE (804)", "cuda-compat"),
        (34, "CUDA_ERROR_STUB_LIBRARY (34)", "LD_LIBRARY_PATH"),
        (999, "CUDA_ERROR_UNKNOWN (999)", "nvidia-smi"),
        (12345, "an unknown code (12345)", "nvidia-smi"),
    ],
)
def test_a_driver_that_refuses_is_told_by_name(folder, code, name, advice):
    text = asked(with_driver(folder, init=code))
    assert f"cuInit fails with {name}; " in text
    assert "libcuda.so.1" in text
    assert advice in text.partition("; ")[2]
    assert "--device cpu" in text
    assert "\n" not in text


@needs_gcc
def test_a_driver_that_counts_no_gpu(folder):
    assert "counts no GPU; check CUDA_VISIBLE_DEVICES" in asked(with_driver(folder, devices=""))


@needs_gcc
def test_a_library_that_is_no_driver(tmp_path):
    assert "has no cuDriverGetVersion: it is no NVIDIA driver" in asked(with_driver(build_stranger(tmp_path)))


@needs_gcc
def test_a_damaged_library(tmp_path):
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library")
    text = asked(with_driver(tmp_path))
    assert text.startswith("libcuda.so.1, the NVIDIA driver, does not load (")
    assert "--gpus all" in text


def test_this_machine():
    """The real case, whichever it is."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        text = asked()
        assert text.startswith("libcuda.so.1, the NVIDIA driver, does not load (")
        assert text.endswith("or use --device cpu")
    else:
        found = asked()
        assert isinstance(found, str) or all(one["memory"] > 0 for one in found["gpus"])


def test_programs_of_the_drivers_major_version_run():
    from engines.nvidia import Driver

    driver = Driver(version=(13, 0), release=None, gpus=())
    assert driver.supports((12, 8))
    assert driver.supports((13, 2))
    assert not Driver(version=(12, 9), release=None, gpus=()).supports((13, 0))
