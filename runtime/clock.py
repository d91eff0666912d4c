"""Where a call's time goes. In: pieces of work as they run. Out: `Span`s, and seconds by stage.

Everything is wall-clock time of the host, from one monotonic clock. A device that works asynchronously needs a clock of
its own with the same three methods, whose instants are recorded events: a `Span` is plain numbers either way.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Span(NamedTuple):
    """One piece of work. Spans of a call do not overlap; what lies between them is the host's."""

    name: str
    """plan, load, bind (buffers of a new size), convert, preprocess, encode, condition, noise, start, denoise, solver,
    decode, color_fix, finish."""
    start: int
    """Nanoseconds since the call began."""
    end: int
    step: int = 0
    """1 and up for what belongs to a step of the sampler, else 0."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) * 1e-9


class Clock:
    """Seconds by stage, spans, and the time since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter_ns()
        self._stages: dict[str, float] = {}
        self._spans: list[Span] = []

    def now(self) -> int:
        """The instant, for `done`."""
        return time.perf_counter_ns() - self._began

    def done(self, name: str, start: int, step: int = 0) -> int:
        """Records the span from `start` to now, and returns its end."""
        end = self.now()
        self._spans.append(Span(name, start, end, step))
        return end

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Records the block as a span."""
        start = self.now()
        yield
        self.done(name, start)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Adds the block's seconds to the stage's."""
        start = self.now()
        yield
        self._stages[stage] = self._stages.get(stage, 0.0) + (self.now() - start) * 1e-9

    @property
    def spans(self) -> tuple[Span, ...]:
        """Those recorded so far, in order."""
        return tuple(self._spans)

    def timings(self) -> dict[str, float]:
        """Seconds by stage so far, and `total`."""
        return self._stages | {"total": self.now() * 1e-9}
