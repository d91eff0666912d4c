"""TensorRT's objects. In: what makes or uses them. Out: what that gives, or our error in the library's words. What is
freed is freed on its own GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from engines.errors import DossrError, EngineError
from engines.nvidia import on_gpu
from engines.trt_library import trt
from engines.trt_log import LOG
from engines.trt_messages import failure

_Object = TypeVar("_Object")


def made(make: Callable[[], _Object], what: str, error: type[EngineError] = EngineError) -> _Object:
    """What a constructor makes. Where the library makes nothing, its bindings raise a TypeError that says nothing.

    Args:
        make: calls the constructor.
        what: is made, for people.
        error: is raised otherwise.

    Raises:
        EngineError: or of the kind asked for: the library refuses, with its words.
    """
    with LOG.collecting() as said:
        try:
            return make()
        except (TypeError, RuntimeError) as refused:
            raise error(
                f"TensorRT {trt.__version__} makes no {what}: {failure(said) or 'it does not say why'}; see that the "
                "GPU has free memory (`nvidia-smi`), and that all of TensorRT's libraries are of that version"
            ) from refused


def working_on(index: int, work: Callable[[], _Object]) -> _Object:
    """What `work` gives on a GPU (`engines.nvidia.on_gpu`). What an error of ours holds on to in the functions that
    raised it is freed before the GPU is let go of: the library frees device memory on the current one, and would make a
    context on another. So the traceback begins here.

    Raises:
        EngineUnavailableError: the driver refuses.
        DossrError: of `work`.
    """
    with on_gpu(index):
        try:
            return work()
        except DossrError as error:
            failed = error
        held: BaseException | None = failed
        while held is not None:
            held.__traceback__ = None
            held = held.__cause__
        raise failed
