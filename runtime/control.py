"""Watching and stopping a call. In: what the caller wants to know, and when it is to stop. Out: `Progress`, or a
`StoppedError` between two engine calls.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from engines.errors import CancelledError, SettingsError, TimeLimitError
from runtime.pace import Work


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a call is."""

    stage: str
    """That begins or goes on: preprocess, encode, denoise, decode, color_fix, finish."""
    step: int = 0
    """Steps of the solver that are done."""
    steps: int = 0
    """In all."""
    tile: int = 0
    """Tiles of the stage that are done (in denoise, of the step); 0 where the picture is whole."""
    tiles: int = 1
    """In all; 1 where the picture is whole."""
    image: int = 0
    """Number of the picture, from 0; of a batch, its first."""
    images: int | None = 1
    """In all; None where a stream does not know."""
    remaining: float | None = None
    """Seconds that the picture (its batch) will take from here, estimated; None before anything is known."""


OnProgress = Callable[[Progress], None]


class Control:
    """Watches one call of an `Upscaler`, and stops it. Thread-safe: `cancel` may be called from any thread, at any
    time; a call that has not begun yet then ends at once. One control belongs to one call; a cancelled one stays so.

    It is asked between two engine calls, and while the call waits (for another thread's picture, for a GPU): a stop
    takes effect within one engine call. On a GPU the calls of a picture are put there ahead: the call ends at once, and
    what was put there (of a picture in one piece, mostly all of it) runs to its end and is thrown away.

    Args:
        on_progress: called in the caller's thread with a `Progress` at each stage, step and tile (on a GPU: when they
            have been put there); it may not call the same Upscaler. What it raises ends the call.
        timeout: seconds that a picture may take, from the call on (in a stream, from when its batch is put on the
            device); None: any.

    Raises:
        SettingsError: on_progress cannot be called, or timeout is not a number above 0.
    """

    def __init__(self, *, on_progress: OnProgress | None = None, timeout: float | None = None) -> None:
        if on_progress is not None and not callable(on_progress):
            raise SettingsError(f"on_progress must be a function of one Progress, not {on_progress!r}")
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf
        ):
            raise SettingsError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        self._on_progress, self._timeout = on_progress, timeout
        self._stop = threading.Event()
        self.work: Work | None = None
        """What there is to do, for `Progress.remaining`."""
        self._image = 0
        self._images: int | None = 1
        self._began = time.monotonic()
        self._limited = False
        self._where = "before its first stage"

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Stops the call."""
        self._stop.set()

    def check(self) -> None:
        """Whether the work may go on; called between two engine calls.

        Raises:
            CancelledError: `cancel` was called.
            TimeLimitError: the picture's time is over.
        """
        if self._stop.is_set():
            raise CancelledError(
                f"cancelled at {self._where}; the picture was not made, call again with another Control to make it"
            )
        if self._limited and self._timeout is not None and time.monotonic() - self._began > self._timeout:
            raise TimeLimitError(
                f"the picture is not done after the timeout of {self._timeout:g} s, at {self._where}; give more time, "
                "a smaller picture or fewer steps"
            )

    def report(self, stage: str, *, step: int = 0, steps: int = 0, tile: int = 0, tiles: int = 1) -> None:
        """Tells the caller, and checks before and afterwards; arguments as of `Progress`.

        Raises:
            CancelledError, TimeLimitError: see `check`.
        """
        self._where = stage
        if stage == "denoise":
            self._where += f", step {min(step + 1, steps)} of {steps}"
        if tiles > 1:
            self._where += f", tile {min(tile + 1, tiles)} of {tiles}"
        self.check()
        if self._on_progress is not None:
            elapsed = time.monotonic() - self._began
            done = step + tile / tiles if stage == "denoise" else tile / tiles
            self._on_progress(
                Progress(
                    stage=stage,
                    step=step,
                    steps=steps,
                    tile=tile,
                    tiles=tiles,
                    image=self._image,
                    images=self._images,
                    remaining=None if self.work is None else self.work.remaining(stage, done, elapsed),
                )
            )
            self.check()

    def begin(self, *, image: int = 0, images: int | None = 1, work: Work | None = None) -> Control:
        """The same for one picture or batch, whose time begins now.

        Args:
            image, images: as of `Progress`.
            work: what there is to do; None: not known yet.
        """
        begun = copy.copy(self)
        begun._image, begun._images, begun._limited = image, images, True
        begun.work, begun._began = work, time.monotonic()
        return begun


def chosen_control(control: Control | None, on_progress: OnProgress | None, timeout: float | None) -> Control:
    """The caller's control, or one of the two shortcuts.

    Raises:
        SettingsError: both, or control is none.
    """
    if control is None:
        return Control(on_progress=on_progress, timeout=timeout)
    if not isinstance(control, Control):
        raise SettingsError(f"control must be a runtime.Control, not {control!r}")
    if on_progress is not None or timeout is not None:
        raise SettingsError("on_progress and timeout belong to the control; give either a control or them")
    return control
