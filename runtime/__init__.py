"""Restores and enlarges pictures with a DoSSR bundle. In: a bundle and an image. Out: an image.

    import runtime
    image = runtime.upscale("photo.jpg", bundle="bundles/dossr-fp16")

Imports no torch, NumPy or CuPy, and nothing heavy before the first use.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from engines.errors import (
    BundleError,
    CancelledError,
    DossrError,
    EngineError,
    EngineUnavailableError,
    GuardError,
    ImageError,
    NonFiniteError,
    OutOfRangeError,
    OutputError,
    SettingsError,
    TimeLimitError,
)

if TYPE_CHECKING:
    from runtime._native import Tensor as Image8
    from runtime.api import close, upscale
    from runtime.control import Control, Progress
    from runtime.result import Report, Result
    from runtime.rows import RowSink
    from runtime.run_plan import RunPlan
    from runtime.upscaler import Upscaler

__all__ = [
    "BundleError",
    "CancelledError",
    "Control",
    "DossrError",
    "EngineError",
    "EngineUnavailableError",
    "GuardError",
    "Image8",
    "ImageError",
    "NonFiniteError",
    "OutOfRangeError",
    "OutputError",
    "Progress",
    "Report",
    "Result",
    "RowSink",
    "RunPlan",
    "SettingsError",
    "TimeLimitError",
    "Upscaler",
    "close",
    "upscale",
]

# A checkout on sys.path hides an installed package's folder, where the compiled module is: look in both.
__path__ = pkgutil.extend_path(__path__, __name__)

_LAZY = {
    "Control": ("runtime.control", "Control"),
    "Image8": ("runtime.kernels", "Tensor"),
    "Progress": ("runtime.control", "Progress"),
    "Report": ("runtime.result", "Report"),
    "RowSink": ("runtime.rows", "RowSink"),
    "RunPlan": ("runtime.run_plan", "RunPlan"),
    "Result": ("runtime.result", "Result"),
    "Upscaler": ("runtime.upscaler", "Upscaler"),
    "close": ("runtime.api", "close"),
    "upscale": ("runtime.api", "upscale"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
