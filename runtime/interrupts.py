"""Ctrl-C and SIGTERM of a command line. In: signals. Out: a cancelled `Control`, or KeyboardInterrupt."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from engines.errors import CancelledError
from runtime.control import Control

EXIT_CODE = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """The first signal cancels the control that is set, or raises KeyboardInterrupt where none is; the second ends the
    process at once. A context manager; does nothing outside the main thread, which alone gets signals.
    """

    def __init__(self) -> None:
        self._control: Control | None = None
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def cancelling(self, control: Control) -> Iterator[None]:
        """While the block runs, the first signal cancels this control, which becomes KeyboardInterrupt at its end."""
        self._control = control
        try:
            yield
        except CancelledError as error:
            raise KeyboardInterrupt from error
        finally:
            self._control = None
        if control.cancelled:
            raise KeyboardInterrupt

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            os.write(2, b"interrupted\n")
            os._exit(EXIT_CODE)
        self._asked = True
        if self._control is None:
            raise KeyboardInterrupt
        self._control.cancel()
