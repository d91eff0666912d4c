"""How errors grow over the steps, as a drawing. In: one engine's comparisons. Out: an SVG element for a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from export.verifying.report import FREE, TEACHER, EngineReport

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 44
_FLOOR, _CEILING = -9.0, 1.0
"""Powers of ten that the drawing spans at most; beyond, NaN included, points stand on its edge."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series: points (step, deviation)."""

    label: str
    style: str
    """CSS class."""
    points: Sequence[tuple[int, float]]


def chart(engine: EngineReport) -> str:
    """Deviation by step, logarithmic, with the gate; empty where there is nothing to draw."""
    lines = [line for line in _lines(engine) if line.points]
    if not lines:
        return ""
    first, last = min(p[0] for line in lines for p in line.points), max(p[0] for line in lines for p in line.points)
    powers = [_power(value) for line in lines for _, value in line.points] + [_power(engine.gate.deviation)]
    low, high = math.floor(min(powers)), math.ceil(max(powers) + 0.1)

    def x(step: float) -> float:
        return _LEFT + (step - first) / max(last - first, 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(power: float) -> float:
        return _TOP + (high - power) / max(high - low, 1) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="deviation by step, {escape(engine.name)}">']
    for power in range(low, high + 1):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(power):.1f}" y2="{y(power):.1f}"/>'
        )
        parts.append(f'<text x="{_LEFT - 8}" y="{y(power) + 4:.1f}" text-anchor="end">1e{power}</text>')
    for step in range(first, last + 1):
        label = "start" if step == 0 else f"step {step}"
        if last - first < 12 or step % 5 == 0:
            anchor = "end" if step == last else "middle"
            parts.append(f'<text x="{x(step):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="{anchor}">{label}</text>')
    gate = y(_power(engine.gate.deviation))
    parts.append(f'<line class="gate" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{gate:.1f}" y2="{gate:.1f}"/>')
    for line in lines:
        points = " ".join(f"{x(step):.1f},{y(_power(value)):.1f}" for step, value in line.points)
        parts.append(f'<polyline class="{line.style}" points="{points}"/>')
        for step, value in line.points:
            title = f"{escape(line.label)}, step {step}: {value:.2e}"
            where = f'cx="{x(step):.1f}" cy="{y(_power(value)):.1f}"'
            parts.append(f'<circle class="{line.style}" {where} r="3.5"><title>{title}</title></circle>')
    at = float(_LEFT)
    for label, style in [*((line.label, line.style) for line in lines), ("gate", "gate")]:
        parts.append(f'<line class="{style}" x1="{at:.0f}" x2="{at + 22:.0f}" y1="{_HEIGHT - 8}" y2="{_HEIGHT - 8}"/>')
        parts.append(f'<text x="{at + 28:.0f}" y="{_HEIGHT - 4}">{escape(label)}</text>')
        at += 52 + 6.6 * len(label)
    return "".join([*parts, "</svg>"])


def _lines(engine: EngineReport) -> list[Line]:
    found = []
    for label, style, mode, output in (
        ("reference's inputs", "teacher", TEACHER, "output"),
        ("own inputs", "free", FREE, "output"),
        ("latent", "latent", FREE, "x"),
    ):
        points = [
            (one.step, one.figures.deviation)
            for one in engine.comparisons
            if one.mode == mode and one.output == output and one.step is not None
        ]
        found.append(Line(label=label, style=style, points=points))
    return found


def _power(value: float) -> float:
    if not math.isfinite(value):
        return _CEILING
    return min(max(math.log10(value), _FLOOR), _CEILING) if value > 0 else _FLOOR
