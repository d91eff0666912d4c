"""benchmarks/gpu.sh without a GPU, and with a stand-in for nvidia-smi and for what it runs."""

import os
import subprocess
import tarfile

import pytest

from tests.paths import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks" / "gpu.sh"
PYTHON = """#!/bin/sh
case "$*" in
  *"-m pytest"*tests/parity*) echo "1 failed"; exit 1;;
  *"-m pytest"*"-m gpu"*) exit 5;;
  *"-m pytest"*) echo "7 passed"; exit 0;;
  *sys.executable*) echo /usr/bin/python3;;
  *"import tensorrt"*) exit 1;;
  *runtime.bench*) echo "measured"; exit 0;;
  *) echo "done: $*";;
esac
"""


def script(folder, path, **environment):
    return subprocess.run(
        ["bash", SCRIPT, folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"HOME": str(folder), "PATH": path, **environment},
    )


def stand_in(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def path_without_gpu(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "mkdir", "tee", "env"):
        found = next(p for p in os.environ["PATH"].split(os.pathsep) if os.access(f"{p}/{name}", os.X_OK))
        (tools / name).symlink_to(f"{found}/{name}")
    return str(tools)


def test_without_a_gpu_it_says_so(tmp_path, path_without_gpu):
    done = script(tmp_path / "out", path_without_gpu)
    assert done.returncode == 2
    assert "no NVIDIA GPU on this machine" in done.stdout
    assert "no NVIDIA GPU" in (tmp_path / "out" / "summary.txt").read_text()


def test_a_part_that_fails_is_recorded_and_the_others_run(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    stand_in(tools, "nvidia-smi", "#!/bin/sh\necho 'Example GPU, 580, 80 GiB'\n")
    stand_in(tools, "cmake", "#!/bin/sh\necho no compiler; exit 1\n")
    stand_in(tools, "find", "#!/bin/sh\nexit 0\n")
    stand_in(tools, "python3", PYTHON)
    out = tmp_path / "out"
    done = script(out, f"{tools}{os.pathsep}{os.environ['PATH']}", DOSSR_BUNDLE="b")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = {line.split()[0]: line for line in (out / "summary.txt").read_text().splitlines()}
    assert "Example GPU" in done.stdout
    assert "tensorrt for Python: not installed" in done.stdout
    for name in ("kernels", "latency", "bench", "bench-again", "bench-peers"):
        assert "passed" in lines[name], lines[name]
    assert "FAILED (1)" in lines["build"]
    assert "FAILED (1)" in lines["parity"]
    assert "no such tests" in lines["gpu"]
    assert lines["2"] == "2 parts failed"
    with tarfile.open(out / "logs.tar.gz") as logs:
        assert {"build.log", "parity.log", "bench.log"} <= set(logs.getnames())


def test_only_the_parts_that_are_asked_for(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    stand_in(tools, "nvidia-smi", "#!/bin/sh\necho 'Example GPU, 580, 80 GiB'\n")
    stand_in(tools, "find", "#!/bin/sh\nexit 0\n")
    stand_in(tools, "python3", PYTHON)
    out = tmp_path / "out"
    done = script(out, f"{tools}{os.pathsep}{os.environ['PATH']}", PARTS="kernels", DOSSR_BUNDLE="b")
    assert done.returncode == 0, done.stdout
    assert "kernels        passed" in done.stdout
    assert "parity" not in done.stdout
