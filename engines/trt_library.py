"""NVIDIA's library, whichever of its two packages is installed. In: nothing. Out: the module `trt`, and the `Machine`
that plans would run on.

Importing this module imports TensorRT: import it where it is used. What needs a driver asks for it first, since without
one TensorRT's Runtime crashes the process (TensorRT 11.4).
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from engines.errors import EngineUnavailableError
from engines.nvidia import driver
from engines.trt_plans import Machine

PACKAGES = ("tensorrt", "tensorrt_lean")
"""In this order."""


def _imported() -> ModuleType:
    for name in PACKAGES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                continue
            reason = f"it needs {error.name}"
        except (ImportError, OSError) as error:
            reason = " ".join(str(error).split())
        raise EngineUnavailableError(
            f"{name} is installed and does not load ({reason}); run `pip install --force-reinstall {name}`, or use "
            "--engine onnxruntime"
        )
    raise EngineUnavailableError(
        "TensorRT is not installed; run `pip install tensorrt`, or `pip install tensorrt_lean_cu13` to run "
        "version-compatible engines without building any, or use --engine onnxruntime"
    )


if TYPE_CHECKING:
    import tensorrt as trt
else:
    trt = _imported()

__all__ = ["IS_LEAN", "machine", "trt"]

IS_LEAN = not hasattr(trt, "Builder")
"""Whether it is the lean runtime, which builds nothing."""


def machine(index: int) -> Machine:
    """The GPU of that number with this library.

    Raises:
        EngineUnavailableError: no driver, or no such GPU.
    """
    gpus = driver().gpus
    for gpu in gpus:
        if gpu.index == index:
            return Machine(
                gpu=gpu.name,
                compute_capability=gpu.compute_capability,
                tensorrt=trt.__version__,
                lean=IS_LEAN,
            )
    there = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in gpus)
    raise EngineUnavailableError(f"there is no GPU {index}; use one of {there}")
