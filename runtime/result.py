"""What a restoration gives back, and how its figures are taken. In: stages as they run. Out: a `Result`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Result:
    """A restored picture and how it came about."""

    image: Any
    """PIL.Image.Image; for a buffer input a `runtime.Image8`, uint8 [H, W, 3 or 4]."""
    timings: Mapping[str, float]
    """Seconds by stage, and `total`; the image file's decoding is `load`."""
    seed: int
    peak_memory: int
    """Bytes: the most that this process has held so far."""


class Clock:
    """Seconds by stage, and the time since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Adds the block's seconds to the stage's."""
        begin = time.perf_counter()
        yield
        self._stages[stage] = self._stages.get(stage, 0.0) + time.perf_counter() - begin

    def timings(self) -> dict[str, float]:
        """Seconds by stage so far, and `total`."""
        return self._stages | {"total": time.perf_counter() - self._start}


def resident_memory() -> int:
    """The memory that this process holds now, in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def peak_memory() -> int:
    """The most memory that this process has held, in bytes; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024  # ru_maxrss would hold the parent's, too
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
