"""Probes from outside: each runs in a process of its own, so that a crash or a hang is an answer. In: a probe's name
and arguments. Out: an `Answer`.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

SECONDS = 30.0
"""After which a probe is ended: a first import from a slow disk takes some, and a first CUDA context too."""
_CODE = """\
import json, sys
sys.path[:], arguments = json.loads(sys.argv[1])
from runtime.doctor.probes import main
main(arguments)
"""
"""With -P nothing is imported from the working folder before our own path is in place."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a probe found before it ended, however it did."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    """Class of the exception that ended it."""
    message: str = ""
    """The exception's text, or how the process ended; "" if it came to its end."""
    log: str = ""
    """What libraries wrote on stderr and stdout."""


class Probes:
    """Processes that run side by side until their answers are asked for. Leaving the block ends the others."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._running: dict[tuple[str, ...], tuple[subprocess.Popen[str], float]] = {}
        self._answers: dict[tuple[str, ...], Answer] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Starts a probe, once."""
        key = (name, *arguments)
        if key in self._running or key in self._answers:
            return
        command = [sys.executable, "-P", "-c", _CODE, json.dumps((sys.path, key))]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        self._running[key] = (process, time.monotonic() + self._seconds)

    def answer(self, name: str, *arguments: str) -> Answer:
        """The probe's answer, started here if it was not before, and waited for."""
        key = (name, *arguments)
        self.start(*key)
        if key not in self._answers:
            self._answers[key] = _answer(*self._running.pop(key), self._seconds)
        return self._answers[key]

    def __enter__(self) -> Probes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for process, _ in self._running.values():
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=1)


def _answer(process: subprocess.Popen[str], deadline: float, seconds: float) -> Answer:
    late = False
    try:
        out, log = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        late = True
        process.kill()
        try:
            out, log = process.communicate(timeout=1)
        except subprocess.TimeoutExpired:  # a process that it left behind holds the pipes
            out, log = "", ""
    facts: dict[str, Any] = {}
    for line in out.splitlines():
        with contextlib.suppress(ValueError):  # a line that a crash cut off
            facts |= json.loads(line)
    error, message = str(facts.pop("error", "")), str(facts.pop("message", ""))
    if late:
        message = f"gave no answer in {seconds:g} s"
    elif process.returncode and not message:
        message = _ending(process.returncode, log)
    return Answer(facts=facts, error=error, message=" ".join(message.split()), log=log)


def _ending(code: int, log: str) -> str:
    """How a process ended that did not say so itself."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"crashes the process ({name})"
    said = [line for line in log.splitlines() if line.strip()]
    return f"ended the process with code {code}" + (f": {said[-1]}" if said else "")
