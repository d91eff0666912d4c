"""Statistics of repeated times. In: seconds, round by round. Out: percentiles, and an interval for the median.

The interval is the one that another run's median is expected to share. It is the median's order-statistics interval
(no distribution is assumed), widened to the medians of the rounds: a shared machine drifts, and times of one moment
resemble each other more than those of another.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Of some repeated measurement, in its unit."""

    count: int
    least: float
    p50: float
    p90: float
    p99: float
    most: float
    low: float
    high: float
    """The median's interval."""


def spread(rounds: Sequence[Sequence[float]]) -> Spread:
    """Figures of values that were taken in rounds, at least one value in each.

    Percentiles are interpolated; with fewer than a hundred values p99 is close to the largest.
    """
    values = sorted(value for values in rounds for value in values)
    below, above = order_statistics(len(values))
    medians = [statistics.median(values) for values in rounds]
    return Spread(
        count=len(values),
        least=values[0],
        p50=percentile(values, 0.5),
        p90=percentile(values, 0.9),
        p99=percentile(values, 0.99),
        most=values[-1],
        low=min(values[below], *medians),
        high=max(values[above], *medians),
    )


def percentile(ordered: Sequence[float], q: float) -> float:
    """Of sorted values, interpolated between the two nearest; q in [0,1]."""
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def order_statistics(count: int, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Indices of the sorted values between which the true median lies with that probability: the narrowest symmetric
    pair, or the first and last where even those give less (fewer than 6 values).
    """
    allowed = (1 - confidence) / 2 * 2**count
    below, tail = 0, 1
    while below + 1 <= (count - 1) // 2 and tail + math.comb(count, below + 1) <= allowed:
        below += 1
        tail += math.comb(count, below)
    return below, count - 1 - below


def agree(a: Spread, b: Spread) -> bool:
    """Whether the intervals of the two medians overlap."""
    return a.low <= b.high and b.low <= a.high
