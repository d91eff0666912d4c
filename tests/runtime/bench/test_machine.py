"""Facts of the machine: from files of a machine made up here, from a stand-in for nvidia-smi, and from this machine."""

import os

import pytest

from runtime.bench.machine import gpu_memory_of, gpus, machine, processor, system, versions

CPUINFO = """processor\t: 0
model name\t: Example 9000
cpu MHz\t\t: 2596.148
flags\t\t: fpu avx2 avx512f

processor\t: 1
model name\t: Example 9001
cpu MHz\t\t: 1000.0
"""
GPU = "Example GPU, 580.1, 81559 MiB, 9.0, 1980 MHz, 1980 MHz, 2619 MHz, 700.00 W, P0, 33"


@pytest.fixture
def root(tmp_path):
    governor = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("performance\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(CPUINFO)
    (tmp_path / "proc/loadavg").write_text("1.25 0.5 0.1 2/80 99\n")
    (tmp_path / "proc/meminfo").write_text("MemAvailable:    1024 kB\n")
    return tmp_path


def test_processor(root):
    found = processor(root)
    assert (found["model"], found["clock now, MHz"], found["governor"]) == ("Example 9000", 2596.148, "performance")
    assert found["vector instructions"] == "avx2, avx512f"
    assert 1 <= found["cores usable"] <= found["cores"]


def test_system(root):
    found = system(root)
    assert (found["memory available"], found["load of the last minute"]) == (1 << 20, 1.25)


def test_a_machine_that_says_nothing(tmp_path):
    found = processor(tmp_path) | system(tmp_path)
    assert found["model"]
    assert found["clock now, MHz"] is found["governor"] is found["load of the last minute"] is None


def stand_in(folder, script):
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_gpu(tmp_path, monkeypatch):
    apps = f"{os.getpid()}, 2048\n7, 99"
    stand_in(tmp_path, f'case "$1" in *compute-apps*) printf "{apps}";; *) echo "{GPU}";; esac')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (gpu,) = gpus()
    assert (gpu["name"], gpu["driver"], gpu["SM clock"]) == ("Example GPU", "580.1", "1980 MHz")
    assert gpu_memory_of() == 2 << 30
    assert gpu_memory_of(7) == 99 << 20
    assert gpu_memory_of(8) is None


@pytest.mark.parametrize("script", ["exit 9", "echo '[N/A]'; exit 1"])
def test_a_driver_that_does_not_answer(tmp_path, monkeypatch, script):
    stand_in(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpus() == []
    assert gpu_memory_of() is None


def test_this_machine():
    found = machine()
    assert found["processor"]["cores usable"] >= 1
    assert found["system"]["memory available"] > 1 << 20
    assert {"python", "onnxruntime", "pillow"} <= versions().keys()
