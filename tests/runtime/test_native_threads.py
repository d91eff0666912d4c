"""The pool of threads: counts, many callers at once, forks, and the whole module without NumPy or torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime import _native
from runtime._native import Tensor, adain_fix, num_threads, philox_normal, set_num_threads, wavelet_fix


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = num_threads()
    set_num_threads(4)
    yield
    set_num_threads(before)


def run_python(code: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False)


def work(seed: int) -> bytes:
    content, style = Tensor((1, 3, 200, 211)), Tensor((1, 3, 200, 211))
    philox_normal(content, seed, 0)
    philox_normal(style, seed, 1)
    wavelet_fix(content, style)
    adain_fix(content, style)
    return bytes(content)


def test_counts() -> None:
    assert num_threads() == 4
    for refused in (0, -1, 1025, 2**40):
        with pytest.raises(ValueError, match="n: expected 1 to 1024"):
            set_num_threads(refused)
    with pytest.raises(TypeError, match="n: expected an integer"):
        set_num_threads(2.0)  # type: ignore[arg-type]
    assert num_threads() == 4


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity masks on this system")
def test_the_default_is_the_affinity_mask() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import runtime._native as native; assert native.num_threads() == 1"
    )
    assert run_python(code).returncode == 0


def test_many_callers_at_once() -> None:
    expected = [work(seed) for seed in range(6)]
    with ThreadPoolExecutor(8) as callers:
        for _ in range(5):
            assert list(callers.map(work, range(6))) == expected


def test_the_number_may_change_while_others_work() -> None:
    expected = work(1)
    with ThreadPoolExecutor(4) as callers:
        results = [callers.submit(work, 1) for _ in range(24)]
        for count in (1, 7, 2, 32, 3) * 8:
            set_num_threads(count)
        assert all(result.result() == expected for result in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_threads_of_its_own() -> None:
    """Forked while other threads keep the pool busy: a child that waited for the parent's workers would hang."""
    code = """
import os, threading, warnings
import runtime._native as native
warnings.simplefilter("ignore")
native.set_num_threads(4)

def work():
    out = native.Tensor((1, 4, 256, 256))
    native.philox_normal(out, 1, 2)
    return bytes(out)

expected = work()
stop = threading.Event()
def busy():
    while not stop.is_set():
        work()
callers = [threading.Thread(target=busy) for _ in range(3)]
for caller in callers: caller.start()
status = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if work() == expected else 3)
    status.append(os.waitpid(child, 0)[1])
stop.set()
for caller in callers: caller.join()
assert status == [0] * 20, status
assert work() == expected
"""
    done = run_python(code, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_numpy_and_no_torch() -> None:
    code = """
import sys
for name in ("numpy", "torch", "cupy"):
    sys.modules[name] = None
import runtime._native as native
image = memoryview(bytearray(range(48))).cast("B", (4, 4, 3))
planes, noise = native.Tensor((1, 3, 16, 16)), native.Tensor((1, 3, 16, 16))
native.image_to_planar(image, planes)
native.philox_normal(noise, 1, 0)
native.wavelet_fix(noise, planes)
native.adain_fix(noise, planes)
out = native.Tensor((4, 4, 3), "uint8")
assert 0 < native.planar_to_image(planes, out) <= 1
assert memoryview(out).tobytes() == image.tobytes()
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_it_goes_quietly() -> None:
    """Tensors that are alive at exit are no reason to write to standard error."""
    done = run_python("import sys, runtime._native as n; sys.kept = [n.Tensor((3,)), n.TorchCpuGenerator(1)]")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_version() -> None:
    assert _native.__version__.count(".") >= 2
