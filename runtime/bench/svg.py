"""Axes and marks as SVG. In: numbers. Out: one `<svg>` element that takes its colors from the page's CSS classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 760
TEXT = 12
"""Height of a line of text."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One direction: numbers from `least` to `most` on pixels from `start` to `end`."""

    least: float
    most: float
    start: float
    end: float
    log: bool = False
    label: str = ""

    def at(self, value: float) -> float:
        """The pixel of a number."""
        if self.log:
            part = math.log(value / self.least) / math.log(self.most / self.least)
        else:
            part = (value - self.least) / (self.most - self.least)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers: powers of ten (their double and fivefold, too, where they are few), or 4 to 9 even steps."""
        if self.log:
            powers = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
            few = self.most / self.least < 1e3
            found = [factor * 10.0**power for power in powers for factor in ((1, 2, 5) if few else (1,))]
            return [tick for tick in found if self.least <= tick <= self.most]
        step = 10.0 ** math.floor(math.log10((self.most - self.least) / 4))
        step *= next(factor for factor in (5, 2, 1) if (self.most - self.least) / (step * factor) >= 4)
        first = math.ceil(self.least / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.most / step + 1e-9) + 1)]


@dataclass
class Plot:
    """Marks, in the order in which they are drawn."""

    title: str
    """Read out by screen readers."""
    height: float
    marks: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str, hint: str = "") -> None:
        """A straight line of a CSS class."""
        self._add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"', "line", hint)

    def path(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """A line through all points."""
        words = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add(f'<polyline points="{words}" class="{kind}"', "polyline", "")

    def bar(self, x1: float, x2: float, y: float, height: float, kind: str, hint: str = "") -> None:
        """A rectangle at least one pixel wide."""
        width = max(1.0, x2 - x1)
        self._add(
            f'<rect x="{x1:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"', "rect", hint
        )

    def dot(self, x: float, y: float, kind: str, hint: str = "", radius: float = 4) -> None:
        """A circle."""
        self._add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}"', "circle", hint)

    def text(self, x: float, y: float, words: str, anchor: str = "start", kind: str = "label") -> None:
        """One line of text with its middle at y."""
        self.marks.append(
            f'<text x="{x:.1f}" y="{y + TEXT / 3:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'
        )

    def axes(self, x: Axis, y: Axis | None) -> None:
        """Grid lines and numbers; without y only the horizontal axis."""
        bottom, top = (y.start, y.end) if y else (self.height - 34, 8.0)
        for tick in x.ticks():
            self.line(x.at(tick), bottom, x.at(tick), top, "grid")
            self.text(x.at(tick), bottom + 12, number(tick), "middle", "tick")
        self.text((x.start + x.end) / 2, bottom + 27, x.label, "middle", "tick")
        if y is not None:
            for tick in y.ticks():
                self.line(x.start, y.at(tick), x.end, y.at(tick), "grid")
                self.text(x.start - 6, y.at(tick), number(tick), "end", "tick")
            self.text(x.start, y.end - 14, y.label, "start", "tick")

    def svg(self) -> str:
        """The element."""
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height:.0f}" role="img" aria-label="{escape(self.title)}">'
            + "".join(self.marks)
            + "</svg>"
        )

    def _add(self, opening: str, element: str, hint: str) -> None:
        self.marks.append(f"{opening}><title>{escape(hint)}</title></{element}>" if hint else f"{opening}/>")


def number(value: float) -> str:
    """Short: 0.05, 20, 1.5k, 2T."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{prefix}"
    return f"{value:.3g}"
