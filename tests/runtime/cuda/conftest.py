"""The native module with CUDA: on a GPU where there is one, and with kernels that run on the CPU."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from runtime import _native
from tests.cuda_on_host.build import CannotBuildError, Machine, load, on_host_path
from tests.runtime.cuda.gpu import Gpu


@pytest.fixture(scope="session")
def on_host() -> Any:
    """The module `_native_on_host`."""
    try:
        return load(on_host_path())
    except CannotBuildError as error:
        return pytest.skip(str(error))


@pytest.fixture
def machine(on_host: Any) -> Iterator[Machine]:
    """What the stand-in of CUDA shows; as it was, afterwards."""
    gc.collect()  # what earlier tests have left is not alive
    machine = Machine(on_host.__file__)
    yield machine
    machine.show()
    machine.fail("", 0, 0)


def gpu_missing() -> str:
    """Why kernels cannot run on a GPU here, or nothing."""
    if _native.cuda is None:
        return "runtime._native was compiled without CUDA"
    try:
        _native.cuda.memory(0)
    except _native.CudaError as error:
        return str(error)
    return ""


WITHOUT_GPU = gpu_missing()


@pytest.fixture(
    scope="session", params=["on_host", *([] if WITHOUT_GPU else [pytest.param("gpu", marks=pytest.mark.gpu)])]
)
def native(request: pytest.FixtureRequest) -> Any:
    """A module that has `cuda`, and a GPU for it: the stand-in, and where there is a GPU `runtime._native` too."""
    return request.getfixturevalue("on_host") if request.param == "on_host" else _native


@pytest.fixture(params=["in order", "reversed"])
def gpu(native: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """Device memory, watched; on the stand-in with the threads of kernels in either order."""
    if request.param == "reversed":
        if not native.__name__.endswith("_on_host"):
            pytest.skip("a GPU has the order of its threads to itself")
        monkeypatch.setenv("CUDA_ON_HOST_ORDER", "reversed")
    gpu = Gpu(native)
    yield gpu
    gpu.check_surroundings()
