"""The CPU memory that all ONNX Runtime sessions of the process share. In: session options. Out: the same, on the arena.

Functions take the `onnxruntime` module, which is imported where it is first needed.
"""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache
from typing import Any

from engines.identity import IDENTITY

_AS_REQUESTED = 1
"""ONNX Runtime's kSameAsRequested: the arena grows by what is asked for, not to the next power of two."""
_FLOAT = 1
"""ONNX's number of float32."""


def share_arena(ort: Any, options: Any) -> None:
    """One arena for the intermediate results of every session of the process: graphs run one after the other, so that
    it holds the largest, not the sum. Weights stay out of it and are given back when a session is closed.
    """
    _register_arena(ort)
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


@cache
def _register_arena(ort: Any) -> None:
    """Once a process: to register again would put a new arena in the old one's place, beside it."""
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(where, ort.OrtArenaCfg({"arena_extend_strategy": _AS_REQUESTED}))


def trim_arena(ort: Any) -> None:
    """Gives back what the shared arena holds and no session uses: ONNX Runtime does so at the end of a run only.

    Does nothing where no session of this process has opened the arena, or the program around us has put an allocator
    of its own in its place, which cannot be trimmed.
    """
    if not _register_arena.cache_info().currsize:
        return
    session, run_options = _empty_session(ort)
    binding = session.io_binding()
    numbers = (ctypes.c_float * 2)()
    first = ctypes.addressof(numbers)
    binding.bind_input("x", "cpu", 0, _FLOAT, [1], first)
    binding.bind_output("y", "cpu", 0, _FLOAT, [1], first + ctypes.sizeof(ctypes.c_float))
    with contextlib.suppress(Exception):  # ONNX Runtime's exception types share no base but Exception
        session.run_with_iobinding(binding, run_options)


@cache
def _empty_session(ort: Any) -> tuple[Any, Any]:
    session_options, run_options = ort.SessionOptions(), ort.RunOptions()
    session_options.intra_op_num_threads = 1
    share_arena(ort, session_options)
    run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return ort.InferenceSession(IDENTITY, session_options, providers=["CPUExecutionProvider"]), run_options
