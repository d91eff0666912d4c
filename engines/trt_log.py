"""TensorRT's log. In: its messages. Out: the meaningful ones in the log "dossr", and all of them to whoever collects.

TensorRT keeps the first logger that it is given for as long as the process lives, so there is one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from engines.trt_library import trt
from engines.trt_messages import Message, meaning, summary

_log = logging.getLogger("dossr")


class Log(trt.ILogger):
    """Warnings and errors; called from threads of TensorRT's own."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._collectors: list[list[Message]] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """See TensorRT's ILogger."""
        if severity in (trt.ILogger.INFO, trt.ILogger.VERBOSE):
            return
        message = Message(severe=severity != trt.ILogger.WARNING, text=msg)
        for collector in self._collectors:
            collector.append(message)
        if not self._collectors:
            level = logging.ERROR if message.severe else logging.DEBUG if meaning(msg) else logging.WARNING
            for line in summary([message]):
                _log.log(level, "TensorRT: %s", line)

    @contextlib.contextmanager
    def collecting(self) -> Iterator[list[Message]]:
        """What is said during the block, by any thread, goes to this list and not to the log."""
        found: list[Message] = []
        self._collectors.append(found)
        try:
            yield found
        finally:
            self._collectors = [collector for collector in self._collectors if collector is not found]


LOG = Log()
