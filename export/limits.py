"""A limit on the process's own memory while it works. In: bytes. Out: a MemoryError in place of the OOM killer.

Linux counts private writable mappings against RLIMIT_DATA, touched or not: the heap, threads' stacks, and what ONNX
Runtime maps of a weights file; the checkpoint's read-only mapping is not counted. Python, torch and ONNX Runtime turn a
refused allocation into an exception, in words of their own; a library's own thread that meets one ends the process,
which loses the graph in work and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Iterator

import torch

_WORDS = (
    *("not enough memory", "allocate memory", "bad allocation", "bad_alloc", "out of memory"),
    *("could not create a primitive", "could not create a memory"),
)
"""In the texts of torch, ONNX Runtime, C++ and oneDNN; not all that a library may say."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error, or one that it came from, says that memory ran out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or (isinstance(seen, OSError) and seen.errno == errno.ENOMEM):
            return True
        if isinstance(seen, Exception) and any(words in str(seen).lower() for words in _WORDS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def limit_own_memory(size: int) -> None:
    """From now on, an allocation that takes the process's own memory beyond `size` bytes fails."""
    torch.ones(1 << 20).exp_()  # starts OpenMP's threads: it ends the process where it gets no stack for them
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = max(size, 1)
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


@contextlib.contextmanager
def restored_limit() -> Iterator[None]:
    """Puts the limit of before back at the end of the block."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
