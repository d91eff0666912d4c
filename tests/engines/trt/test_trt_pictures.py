"""The TensorRT backend on the stand-ins of CUDA and TensorRT."""

import pytest

from tests.runtime.cuda.test_pictures import run_on_host


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_pictures(late):
    done = run_on_host("tests/engines/trt/pictures_on_host.py", **({"CUDA_ON_HOST_LATE": "1"} if late else {}))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
