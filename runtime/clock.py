"""Where a call's time goes. In: pieces of work as they run. Out: `Span`s, and seconds by stage.

Everything is on the host's monotonic clock. While a device works asynchronously, instants are events on its stream
(`Clock.follow`), which become numbers when they are asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


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


class Instant(NamedTuple):
    """A moment, and how it becomes a number."""

    mark: Any
    nanoseconds: Callable[[Any], int]
    """Of `mark`, on the clock of `time.perf_counter_ns`."""


class Clock:
    """Seconds by stage, spans, and the time since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter_ns()
        self._stages: list[tuple[str, Instant, Instant]] = []
        self._spans: list[tuple[str, Instant, Instant, int]] = []
        self.follow_host()

    def follow(self, mark: Callable[[], Any], nanoseconds: Callable[[Any], int]) -> None:
        """From now on instants are what `mark` gives, and `nanoseconds` says when that was. Spans and timings may be
        asked for when all of them have happened.
        """
        self._mark, self._nanoseconds = mark, nanoseconds

    def follow_host(self) -> None:
        """From now on instants are the host's."""
        self.follow(time.perf_counter_ns, int)

    def now(self) -> Instant:
        """The instant, for `done`."""
        return Instant(self._mark(), self._nanoseconds)

    def done(self, name: str, start: Instant, step: int = 0) -> Instant:
        """Records the span from `start` to now, and returns its end."""
        end = self.now()
        self._spans.append((name, start, end, step))
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
        self._stages.append((stage, start, self.now()))

    def settle(self) -> None:
        """Instants so far become numbers: what they were marked on is free to go."""
        self._stages, self._spans = self._numbers()

    def add(self, tape: Clock) -> None:
        """Adds what another clock recorded, as the numbers that its marks have now."""
        stages, spans = tape._numbers()
        self._stages += stages
        self._spans += spans

    def _numbers(self) -> tuple[list[tuple[str, Instant, Instant]], list[tuple[str, Instant, Instant, int]]]:
        """Stages and spans, their instants as numbers."""
        fixed: dict[int, Instant] = {}
        """By the mark's address: a span begins where another ends, and asking a device's event takes time."""

        def now(instant: Instant) -> Instant:
            key = id(instant.mark)
            if key not in fixed:
                fixed[key] = Instant(instant.nanoseconds(instant.mark), int)
            return fixed[key]

        return (
            [(stage, now(start), now(end)) for stage, start, end in self._stages],
            [(name, now(start), now(end), step) for name, start, end, step in self._spans],
        )

    @property
    def spans(self) -> tuple[Span, ...]:
        """Those recorded so far, in order."""
        return tuple(Span(name, self._since(start), self._since(end), step) for name, start, end, step in self._spans)

    def timings(self) -> dict[str, float]:
        """Seconds by stage so far, and `total`."""
        seconds: dict[str, float] = {}
        for stage, start, end in self._stages:
            seconds[stage] = seconds.get(stage, 0.0) + (self._since(end) - self._since(start)) * 1e-9
        return seconds | {"total": (time.perf_counter_ns() - self._began) * 1e-9}

    def _since(self, instant: Instant) -> int:
        return instant.nanoseconds(instant.mark) - self._began
