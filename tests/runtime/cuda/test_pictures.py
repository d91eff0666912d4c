"""Whole pictures by the GPU's way, on CUDA's stand-in: the suites of the runtime, and what is the GPU's alone.

On a GPU itself: tests/parity/test_cuda.py.
"""

import os
import subprocess
import sys

import pytest

from tests.cuda_on_host.build import CannotBuildError, on_host_path
from tests.paths import REPOSITORY


def run_on_host(*arguments, **environment):
    try:
        path = on_host_path()
    except CannotBuildError as error:
        pytest.skip(str(error))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.cuda_on_host.plugin", "-p", "no:cacheprovider", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"DOSSR_ON_HOST": str(path)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )


@pytest.mark.parametrize("suite", ["test_upscaler", "test_control", "test_stream", "test_guard", "test_clock"])
def test_the_runtimes_own_suite(suite):
    done = run_on_host(f"tests/runtime/{suite}.py")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_what_is_the_gpus_alone(late):
    """Late: streams run what they are given only when something waits for it."""
    done = run_on_host("tests/runtime/cuda/pictures_on_host.py", **({"CUDA_ON_HOST_LATE": "1"} if late else {}))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
