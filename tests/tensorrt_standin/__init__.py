"""A stand-in for TensorRT, for tests on machines without it: its Python API as far as we use it, with the behaviour
that its documentation describes. It builds nothing: a plan is a note of the ONNX file, and ONNX Runtime's CPU provider
runs that file on the bound addresses. It shows nothing of TensorRT's own correctness or speed.

`install` puts it in TensorRT's place for one test. `faults` says what goes wrong.
"""

import contextlib
import gc
import sys

from tests.tensorrt_standin import building, core, running
from tests.tensorrt_standin.core import VERSION, current_gpu, faults

__all__ = ["GPU", "VERSION", "faults", "install", "module"]

GPU = "Stand-in H200"
OURS = ("library", "log", "objects", "monitor", "timing", "build", "tensors", "run", "refit")
"""Modules of `engines` that keep the library which they were imported with."""


def module(*, lean=False, version=VERSION):
    """A module of TensorRT's name and API; the lean one has no builder and no parser."""
    import types

    made = types.ModuleType("tensorrt_lean" if lean else "tensorrt")
    made.__version__ = version
    for part in (core, running) if lean else (core, running, building):
        for name in part.API:
            setattr(made, name, getattr(part, name))
    return made


@contextlib.contextmanager
def forgotten():
    """Our modules are imported anew inside, and as they were after it."""
    import engines

    names = [f"engines.trt_{name}" for name in OURS]
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    for name in names:
        engines.__dict__.pop(name.partition(".")[2], None)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
            engines.__dict__.pop(name.partition(".")[2], None)
        for name, found in kept.items():
            sys.modules[name] = found
            setattr(engines, name.partition(".")[2], found)


@contextlib.contextmanager
def installed(monkeypatch, *, lean=False, version=VERSION):
    """The stand-in is the installed library, and the machine has one GPU."""
    from engines import nvidia

    gib = 1 << 30
    gpu = nvidia.Gpu(index=0, name=GPU, compute_capability=(9, 0), memory=141 * gib, free=140 * gib)
    found = nvidia.Driver(version=(13, 0), release="580.95.05", gpus=(gpu,))
    with forgotten(), monkeypatch.context() as patch:
        made = module(lean=lean, version=version)
        patch.setitem(sys.modules, made.__name__, made)
        if lean:
            patch.setitem(sys.modules, "tensorrt", None)
        for user in ("engines.nvidia", "engines.trt", "engines.trt_bundle"):
            patch.setattr(f"{user}.driver", lambda: found)
        for user in ("engines.nvidia", "engines.trt", "engines.trt_bundle"):
            patch.setattr(f"{user}.free_memory", lambda _index: faults.free)
        patch.setattr("engines.nvidia.on_gpu", current_gpu.during)
        faults.reset()
        yield made
        gc.collect()
        elsewhere, early = faults.freed_elsewhere, faults.freed_early
        faults.reset()
    assert not elsewhere, f"freed while their GPU was not the current one: {elsewhere}"
    assert not early, f"freed before their work was done: {early}"
