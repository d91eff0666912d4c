"""How long a picture will take from here. In: what pictures before it took. Out: seconds."""

from __future__ import annotations

import threading
from collections.abc import Mapping

_ARITHMETIC = {"preprocess": 0.587, "encode": 1.117, "denoise": 1.073, "decode": 2.515, "color_fix": 0.0, "finish": 0.0}
"""Of the full-size model, a step for denoise: the weights of the stages, in order, before any was measured."""


class Pace:
    """Seconds by stage of an Upscaler's last picture. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: Mapping[str, float] = {}

    def learn(self, timings: Mapping[str, float], pixels: int, steps: int) -> None:
        """Takes over a picture's `Result.timings`; `pixels` are those of its batch, at low resolution."""
        seconds = {stage: timings.get(stage, 0.0) / pixels for stage in _ARITHMETIC}
        seconds["denoise"] /= steps
        with self._lock:
            self._seconds = seconds

    @property
    def seconds(self) -> Mapping[str, float]:
        """A pixel of low resolution and stage, in denoise and step; empty before the first picture."""
        with self._lock:
            return self._seconds


class Work:
    """What there is to do for one batch.

    Args:
        pace: of the Upscaler.
        pixels: of the batch, at low resolution.
        steps: of the plan.
    """

    def __init__(self, pace: Pace, pixels: int, steps: int) -> None:
        self._pace, self._pixels, self._steps = pace, pixels, steps

    def remaining(self, stage: str, done: float, elapsed: float) -> float | None:
        """Seconds from here: by the last picture's pace, or by the time that the work so far took; None before any.

        Args:
            stage: the present one.
            done: how much of it is done: of its 1, in denoise of its steps.
            elapsed: seconds since the work began.
        """
        seconds = self._pace.seconds
        weights = dict(seconds or _ARITHMETIC)
        if stage not in weights:
            return None
        stages = list(weights)
        amounts = {name: self._steps if name == "denoise" else 1 for name in stages}
        before = sum(weights[name] * amounts[name] for name in stages[: stages.index(stage)])
        so_far = before + weights[stage] * min(done, amounts[stage])
        rest = max(0.0, sum(weights[name] * amounts[name] for name in stages) - so_far)
        if seconds:
            return rest * self._pixels
        return elapsed * rest / so_far if so_far > 0 else None
