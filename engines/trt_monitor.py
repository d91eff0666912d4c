"""How far a build is. In: TensorRT's phases, from threads of its own. Out: calls of a `Watch`, and a way to stop.

Nothing that goes wrong here may reach TensorRT: an exception in a callback ends the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsInt

from engines.trt_library import trt

Watch = Callable[[str, float], None]
"""Called as (what is done, part of it that is done in 0..1)."""


@dataclass
class _Phase:
    parent: str
    steps: int
    done: int = 0


class Monitor(trt.IProgressMonitor):
    """See TensorRT's IProgressMonitor: phases that hold phases, each of a number of steps.

    Args:
        watch: an exception that it raises cancels the build and is kept in `error`.
    """

    def __init__(self, watch: Watch) -> None:
        trt.IProgressMonitor.__init__(self)
        self._watch = watch
        self._phases: dict[str, _Phase] = {}
        self._furthest = 0.0
        self._cancelled = False
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def cancel(self) -> None:
        """Ends the build at its next step."""
        self._cancelled = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: SupportsInt) -> None:
        """See TensorRT's IProgressMonitor."""
        with self._lock:
            self._phases[phase_name] = _Phase(parent=parent_phase or "", steps=max(int(num_steps), 1))
        self._tell(phase_name)

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        """See TensorRT's IProgressMonitor. False ends the build."""
        with self._lock:
            if phase := self._phases.get(phase_name):
                phase.done = max(phase.done, int(step) + 1)
        self._tell(phase_name)
        return not self._cancelled

    def phase_finish(self, phase_name: str) -> None:
        """See TensorRT's IProgressMonitor."""
        with self._lock:
            self._phases.pop(phase_name, None)

    def _tell(self, phase_name: str) -> None:
        with self._lock:
            self._furthest = max(self._furthest, self._fraction())
            furthest = self._furthest
        try:
            self._watch(phase_name, furthest)
        except BaseException as error:  # it must not reach TensorRT
            self.error = error
            self._cancelled = True

    def _fraction(self) -> float:
        """Of the outermost phases: their done steps, and the part of the step that the phases inside are at."""
        return max((self._done(name) for name, phase in self._phases.items() if not phase.parent), default=0.0)

    def _done(self, name: str) -> float:
        phase = self._phases[name]
        inside = max((self._done(child) for child, found in self._phases.items() if found.parent == name), default=0.0)
        return min((phase.done + inside) / phase.steps, 1.0)
