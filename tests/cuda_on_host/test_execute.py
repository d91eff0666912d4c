"""The stand-in that runs kernels on the CPU: it finds the faults that it is there to find."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.paths import REPOSITORY, TESTS

Run = Callable[..., "subprocess.CompletedProcess[str]"]
THREADS = 64
NEIGHBOURS = [*range(1, THREADS), 0, 0, 0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs one of broken_kernels.cu, in an order of threads."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    program = tmp_path_factory.mktemp("execute") / "kernels"
    here = TESTS / "cuda_on_host"
    folders = (f"-I{TESTS}", f"-I{REPOSITORY / 'runtime' / 'native'}")
    sources = ("-x", "c++", here / "broken_kernels.cu", here / "execute.cpp")
    subprocess.run(
        [compiler, "-std=c++17", "-O1", "-DDOSSR_CUDA_ON_HOST", *folders, *sources, "-o", program], check=True
    )

    def one(name: str, order: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CUDA_ON_HOST_ORDER": order}
        return subprocess.run([program, name], env=environment, capture_output=True, text=True, check=False)

    return one


def numbers(done: subprocess.CompletedProcess[str]) -> list[int]:
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.split()))


def test_a_barrier_makes_the_order_of_threads_no_matter(run: Run) -> None:
    assert numbers(run("right")) == numbers(run("right", "reversed")) == NEIGHBOURS


def test_a_missing_barrier_shows_in_one_of_the_orders(run: Run) -> None:
    assert NEIGHBOURS not in (numbers(run("no_barrier")), numbers(run("no_barrier", "reversed")))
    assert numbers(run("no_barrier")) != numbers(run("no_barrier", "reversed"))


def test_what_no_thread_wrote_is_garbage(run: Run) -> None:
    assert numbers(run("unwritten")) == [0xA5A5A5A5 - 2**32] * THREADS + [0, 0]


@pytest.mark.parametrize("order", ["", "reversed"])
def test_warp_operations_and_atomics(run: Run, order: str) -> None:
    threads = range(THREADS)
    values = [1000 * (t // 32 * 32 + 31) + (t ^ 1) + (t + 4 if t % 32 < 28 else t) for t in threads]
    assert numbers(run("warps", order)) == [*values, THREADS - 1, sum(threads)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("half_a_barrier", "threads wait in a barrier or a warp operation that others never reach"),
        ("half_a_warp", "threads wait in a barrier or a warp operation that others never reach"),
        ("not_in_its_mask", "a lane calls a warp operation whose mask leaves it out"),
        ("too_much_memory", "more shared memory than a block may have"),
    ],
)
def test_what_hangs_on_a_gpu_ends_with_a_reason(run: Run, name: str, text: str) -> None:
    done = run(name)
    assert done.returncode != 0
    assert done.stderr == f"cuda_on_host: block (0, 0, 0): {text}\n"


def test_launches_that_cuda_refuses(run: Run) -> None:
    done = run("refusals")
    assert done.stdout.splitlines() == [
        "block out of range",
        "more than 1024 threads in a block",
        "block out of range",
        "block out of range",
        "-",
        *["grid out of range"] * 2,
        "a grid of no blocks",
        "-",
        "more dynamic shared memory than asked for",
        "0 -",
        "1 -",
    ]
