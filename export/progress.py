"""What an export tells while it runs. In: stages. Out: one updating line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Protocol, TextIO


class Reporter(Protocol):
    """Hears what an export does."""

    def stage(self, name: str, done: float) -> None:
        """A stage begins; `done` in [0,1] is the share of the whole work that lies behind."""


class Silent:
    """Says nothing."""

    def stage(self, name: str, done: float) -> None:
        """See `Reporter`."""


class Progress:
    """Writes to a stream; a context manager, so that the updating line ends cleanly."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._started = time.monotonic()
        self._name, self._done = "", 0.0
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        if self._terminal:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with self._lock:
            if self._terminal:
                self._write("\r\x1b[K")

    def stage(self, name: str, done: float) -> None:
        """See `Reporter`."""
        with self._lock:
            self._name, self._done = name, done
            self._write(f"\r\x1b[K{self.line()}" if self._terminal else f"{self.line()}\n")

    def line(self) -> str:
        """Stage, elapsed, and remaining where it can be estimated."""
        elapsed = time.monotonic() - self._started
        remaining = f", about {_clock(elapsed / self._done - elapsed)} left" if self._done > 0.05 else ""
        return f"[{self._done:4.0%}] {self._name}, {_clock(elapsed)} elapsed{remaining}"

    def _tick(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                if not self._ended.is_set():
                    self._write(f"\r\x1b[K{self.line()}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    return f"{minutes}:{rest:02d}"
