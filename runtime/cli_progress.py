"""What a terminal shows while pictures are made. In: `Progress`. Out: a bar (rich, where it is installed) or a line;
nothing in a pipe.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from runtime.control import Progress


class Silent:
    """Shows nothing but lines that are said."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_error: object) -> None:
        return

    def __call__(self, progress: Progress) -> None:
        """Takes notice of a `Progress`."""

    def say(self, line: str) -> None:
        """Prints a line on stderr that stays."""
        print(line, file=sys.stderr, flush=True)

    def done(self, count: int) -> None:
        """So many pictures are done, failed or passed over."""


class _Watch:
    """Seconds of the present picture."""

    def __init__(self) -> None:
        self._image, self._began = -1, 0.0

    def elapsed(self, progress: Progress) -> float:
        """Since the first `Progress` of the same picture."""
        now = time.perf_counter()
        if progress.image != self._image:
            self._image, self._began = progress.image, now
        return now - self._began


class Line(Silent):
    """One line that is written over, and goes at the end."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._watch = names, _Watch()

    def __exit__(self, *_error: object) -> None:
        self._clear()

    def __call__(self, progress: Progress) -> None:
        """See `Silent`."""
        count = f"{progress.image + 1}/{len(self._names)} " if len(self._names) > 1 else ""
        text = f"{count}{self._names[progress.image]}: {state(progress)}, {self._watch.elapsed(progress):.1f} s"
        self._clear()
        print(text, end="", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """See `Silent`."""
        self._clear()
        super().say(line)

    def _clear(self) -> None:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class Bars(Silent):
    """A bar over all pictures, and one of the present picture.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._names, self._watch = names, _Watch()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[state]}"))
        self._bars: Any = RichProgress(*columns, console=Console(stderr=True, highlight=False), transient=True)
        self._all = self._bars.add_task("all", total=len(names), state="", visible=len(names) > 1)
        self._one = self._bars.add_task("", total=1.0, state="")
        self._start = time.perf_counter()

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()

    def __call__(self, progress: Progress) -> None:
        """See `Silent`."""
        elapsed = self._watch.elapsed(progress)
        share = elapsed / (elapsed + progress.remaining) if elapsed and progress.remaining is not None else 0.0
        name = self._names[progress.image]
        self._bars.update(self._one, description=name, completed=share, state=state(progress))

    def say(self, line: str) -> None:
        """See `Silent`."""
        self._bars.console.print(line, markup=False, soft_wrap=True)

    def done(self, count: int) -> None:
        """See `Silent`."""
        left = (time.perf_counter() - self._start) / count * (len(self._names) - count)
        text = f"{count} of {len(self._names)}, {duration(left)} left"
        self._bars.update(self._all, completed=count, state=text)


def display(names: Sequence[str], *, enabled: bool) -> Silent:
    """For pictures of these names; shows them on a terminal alone."""
    if not enabled or not sys.stderr.isatty():
        return Silent()
    try:
        return Bars(names)
    except ImportError:
        return Line(names)


def state(progress: Progress) -> str:
    """Stage, step and tile, and what remains."""
    text = progress.stage
    if progress.stage == "denoise":
        text += f" {progress.step}/{progress.steps}"
    if progress.tiles > 1:
        text += f", tile {progress.tile}/{progress.tiles}"
    if progress.remaining is not None:
        text += f", {duration(progress.remaining)} left"
    return text


def duration(seconds: float) -> str:
    """Like 7 s, 2:05 or 1:02:05."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
