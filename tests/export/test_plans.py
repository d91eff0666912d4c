"""Engines that are verified, on the stand-ins of CUDA and TensorRT."""

from tests.runtime.cuda.test_pictures import run_on_host


def test_plans():
    done = run_on_host("tests/export/plans_on_host.py")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
