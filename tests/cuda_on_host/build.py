"""Builds and loads `_native_on_host`. In: the sources and a compiler. Out: the module, its CUDA kernels run on the CPU.

It is built in `build/`, once for each interpreter, and again where a source has changed.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

from tests.paths import REPOSITORY

NAME = "_native_on_host"
_WORK = ctypes.CFUNCTYPE(None)


class CannotBuildError(Exception):
    """Something that the build needs is not installed."""


def on_host_path() -> Path:
    """The compiled module's file; DOSSR_ON_HOST names one that is there already.

    Raises:
        CannotBuildError: there is no cmake, nanobind or compiler.
        subprocess.CalledProcessError: the build failed.
    """
    if given := os.environ.get("DOSSR_ON_HOST"):
        return Path(given)
    tools = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    cmake, ninja = shutil.which("cmake", path=tools), shutil.which("ninja", path=tools)
    if not cmake:
        raise CannotBuildError("no cmake: pip install -e '.[dev]'")
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        raise CannotBuildError("no C++ compiler")
    try:
        nanobind = metadata.version("nanobind")
    except metadata.PackageNotFoundError:
        raise CannotBuildError("no nanobind: pip install -e '.[dev]'") from None
    key = hashlib.sha256(repr((sys.executable, sys.version, nanobind, cmake, ninja)).encode()).hexdigest()[:12]
    folder = REPOSITORY / "build" / "cuda_on_host" / key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Little optimization: half the time to build, and no result depends on it.
        settings = ("-DDOSSR_CUDA=OFF", "-DDOSSR_CUDA_ON_HOST=ON", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG")
        settings += (f"-DPython_EXECUTABLE={sys.executable}",)
        generator = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}") if ninja else ()
        subprocess.run([cmake, "-S", REPOSITORY, "-B", folder, *generator, *settings], check=True)
        subprocess.run([cmake, "--build", folder, "--target", NAME, "--parallel", str(os.cpu_count())], check=True)
    (module,) = (folder / "tests" / "cuda_on_host").glob(f"{NAME}*.so")
    return module


def load(path: Path) -> ModuleType:
    """The module of that file; once a process."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(NAME, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[NAME]


class Machine:
    """The machine that the stand-in of CUDA shows (`runtime.h`)."""

    def __init__(self, path: Path) -> None:
        self._functions = ctypes.CDLL(str(path))

    def show(self, *, devices: int = 2, driver: int = -1) -> None:
        """GPUs, and the driver's version from now on: 12040 is 12.4, 0 none at all, -1 a fitting one."""
        self._functions.cuda_on_host_machine(devices, driver)

    def fail(self, function: str, code: int, n: int = 1) -> None:
        """The n-th next call of a function of CUDA gives that code; n of 0: no call does."""
        self._functions.cuda_on_host_fail(function.encode(), n, code)

    def calls(self, function: str) -> int:
        """Calls of a function of CUDA so far."""
        return int(self._functions.cuda_on_host_calls(function.encode()))

    def finish(self, stream: int) -> None:
        """What was put on the stream with that address is done, as a library's work on it would have it."""
        self._functions.cuda_on_host_finish(ctypes.c_size_t(stream))

    def run(self, stream: int, work: Callable[[], None]) -> object:
        """Does the work of a library that is not ours in the order of the stream with that address: now, when what was
        put there before is done, or, where the stream captures, at each launch of the graph. What is returned must
        live as long as the graph, which holds a bare address.
        """
        function = _WORK(work)
        if self._functions.cuda_on_host_call(ctypes.c_size_t(stream), function):
            return function
        self.finish(stream)
        work()
        return None

    def has_context(self, device: int) -> bool:
        return bool(self._functions.cuda_on_host_has_context(device))

    def alive(self) -> int:
        """Allocations, streams, events and graphs that were made and not destroyed."""
        return int(self._functions.cuda_on_host_alive())
