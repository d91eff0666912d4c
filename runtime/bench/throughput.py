"""Pictures one after the other, in batches, and the time that each takes. In: an Upscaler, a case and a batch size.
Out: `Throughput`.

`Upscaler.stream` loads and finishes pictures beside the device's work, so that a picture takes less here than in a call
of its own even where batches are of one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from runtime.bench.measure import WARM_UPS, Case, device_of, warm_up
from runtime.bench.photo import picture_file
from runtime.bench.spread import Spread, spread
from runtime.upscaler import Upscaler

LEAST_BATCHES = 4
"""Of a round: two are on their way at a time, so that most loading and finishing overlaps."""


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Of one batch size."""

    case: Case
    batch: int
    """Pictures that are restored together."""
    seconds: Spread
    """A picture: a round's time from its first picture's loading to its last one's end, over its pictures."""
    rounds: tuple[float, ...]
    """Each round's."""
    pictures: int
    """Of all rounds."""


class StreamBench:
    """Restores a case's picture over and over in batches of one size."""

    def __init__(self, upscaler: Upscaler, case: Case, batch: int) -> None:
        self.case, self.batch = case, batch
        self._upscaler = upscaler
        self._photo = picture_file(case.width, case.height)

    def warm_up(self) -> None:
        """As `Bench.warm_up`, batch by batch."""
        times = WARM_UPS[device_of(self._upscaler.description)]
        warm_up(partial(self._restore, 1), times)

    def round(self, batches: int) -> tuple[float, int]:
        """Restores that many batches, at least `LEAST_BATCHES`.

        Returns:
            Seconds of all of them, and how many pictures they were.
        """
        batches = max(batches, LEAST_BATCHES)
        begin = time.perf_counter()
        self._restore(batches)
        return time.perf_counter() - begin, batches * self.batch

    def _restore(self, batches: int) -> None:
        photos = [self._photo] * (batches * self.batch)
        settings = self.case
        for _ in self._upscaler.stream(photos, batch=self.batch, steps=settings.steps, order=settings.order, tile=None):
            pass


def throughput(bench: StreamBench, rounds: Sequence[tuple[float, int]]) -> Throughput:
    """Sums up the rounds of a batch size."""
    each = tuple(seconds / pictures for seconds, pictures in rounds)
    return Throughput(
        case=bench.case,
        batch=bench.batch,
        seconds=spread([[seconds] for seconds in each]),
        rounds=each,
        pictures=sum(pictures for _, pictures in rounds),
    )
