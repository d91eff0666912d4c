"""The plots of a report. In: the report. Out: SVG elements; "" where a report holds too little for a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from runtime.bench.svg import WIDTH, Axis, Plot
from runtime.bench.table import rate, seconds, steps_label

_LEFT, _RIGHT, _ROW = 150, WIDTH - 70, 22


def _kind(stage: dict[str, Any]) -> str:
    return "engine" if stage["engine"] else "apart" if stage["apart"] else "own"


def waterfall(case: dict[str, Any]) -> str:
    """The run nearest to the median: a row for each kind of span, a bar for each span."""
    stages = {stage["name"]: stage for stage in case["stages"]}
    names = list(dict.fromkeys(span[0] for span in case["spans"]))
    plot = Plot("Stages of one picture over time", len(names) * _ROW + 50)
    x = Axis(least=0, most=case["spans"][-1][3], start=_LEFT, end=_RIGHT, label="seconds since the call began")
    plot.axes(x, None)
    for row, name in enumerate(names):
        y = 12 + row * _ROW
        plot.text(_LEFT - 10, y + 7, name, "end")
        spans = [span for span in case["spans"] if span[0] == name]
        for _, step, start, end in spans:
            hint = f"{name}{f' {step}' if step else ''}: {seconds(end - start)}"
            plot.bar(x.at(start), x.at(end), y, 14, _kind(stages[name]), hint)
        last = x.at(spans[-1][3])
        plot.text(
            min(last + 6, _RIGHT + 4), y + 7, seconds(sum(end - start for *_, start, end in spans)), "start", "tick"
        )
    return plot.svg()


def distribution(report: dict[str, Any]) -> str:
    """Every timed picture as a dot, ours and the peers', with the median and its interval."""
    case = report["cases"][0]
    rows = [("this runtime", case["seconds"], case["picture"], "engine")]
    rows += [(peer["name"], peer["runs"], peer["seconds"], "own") for peer in report["peers"]]
    most = max(max(values) for _, values, *_ in rows)
    least = min(min(values) for _, values, *_ in rows)
    margin = max((most - least) * 0.06, most * 0.01)
    plot = Plot("Seconds of each timed picture", len(rows) * 46 + 50)
    x = Axis(least=max(0.0, least - margin), most=most + margin, start=_LEFT, end=WIDTH - 20, label="seconds a picture")
    plot.axes(x, None)
    for row, (name, values, spread, kind) in enumerate(rows):
        y = 30 + row * 46
        plot.text(_LEFT - 10, y, name, "end")
        hint = (
            f"{name}: median {seconds(spread['p50'])}, between {seconds(spread['low'])} and {seconds(spread['high'])}"
        )
        plot.bar(x.at(spread["low"]), x.at(spread["high"]), y - 15, 30, f"{kind} interval", hint)
        for i, value in enumerate(values):
            lift = (i * 7 % 11 - 5) * 2  # apart from each other, the same way each time
            plot.dot(x.at(value), y + lift, f"{kind} faint", f"{name}, picture {i + 1}: {seconds(value)}", 3)
        plot.line(x.at(spread["p50"]), y - 17, x.at(spread["p50"]), y + 17, "median", hint)
    return plot.svg()


def roofline(report: dict[str, Any]) -> str:
    """Each engine stage between its two intensities, under the machine's ceilings."""
    stages = [stage for stage in report["cases"][0]["stages"] if stage.get("flops")]
    if not stages:
        return ""
    top, copy = report["ceilings"]["flops"], report["ceilings"]["copy"]
    bends = [stage["flops"] / stage[key] for stage in stages for key in ("least_bytes", "unfused_bytes")] + [top / copy]
    rates = [stage["flops_per_second"] for stage in stages]
    plot = Plot("Achieved arithmetic of each engine stage under the machine's ceilings", 380)
    x = Axis(
        least=min(bends) / 2,
        most=max(bends) * 4,
        start=70,
        end=WIDTH - 20,
        log=True,
        label="operations a byte (FLOP/B)",
    )
    y = Axis(least=min(*rates, top) / 4, most=max(*rates, top) * 2, start=336, end=30, log=True, label="FLOP/s")
    plot.axes(x, y)
    bend = top / copy
    lowest = max(x.least, y.least / copy)
    plot.path([(x.at(lowest), y.at(lowest * copy)), (x.at(bend), y.at(top)), (x.at(x.most), y.at(top))], "ceiling")
    plot.text(x.end - 4, y.at(top) - 10, f"arithmetic {rate(top)}FLOP/s, memory {rate(copy)}B/s", "end", "tick")
    below = 0.0
    for stage in sorted(stages, key=lambda stage: -stage["flops_per_second"]):
        reached = y.at(stage["flops_per_second"])
        unfused, least = (x.at(stage["flops"] / stage[key]) for key in ("unfused_bytes", "least_bytes"))
        hint = (
            f"{stage['name']}: {rate(stage['flops_per_second'])}FLOP/s, {stage['of_ceiling']:.0%} of the ceiling; "
            f"{rate(stage['flops'])}FLOP, least {rate(stage['least_bytes'])}B, unfused {rate(stage['unfused_bytes'])}B"
        )
        plot.line(unfused, reached, least, reached, "engine reach", hint)
        plot.dot(unfused, reached, "hollow", hint)
        plot.dot(least, reached, "engine", hint)
        below = max(reached, below + 13)  # labels keep off each other
        words = f"{stage['name']}, {stage['of_ceiling']:.0%}"
        end = least + 8 < x.end - 90
        plot.text(least + 8 if end else unfused - 8, below, words, "start" if end else "end")
    return plot.svg()


class _Point(NamedTuple):
    """One of a curve's."""

    value: float
    name: str
    spread: dict[str, Any]


def against(cases: Sequence[dict[str, Any]], pixels: bool) -> str:
    """Latency against pixels, or against steps; at least two cases that differ in nothing else."""
    first = cases[0]
    fixed = ("steps",) if pixels else ("width", "height")
    same = [case for case in cases if all(case[key] == first[key] for key in fixed)]
    if pixels:
        points = [_Point(c["width"] * c["height"], f"{c['width']}x{c['height']}", c["picture"]) for c in same]
        return _curve("Seconds a picture against its pixels", "pixels of the input", points)
    points = [_Point(case["steps"], steps_label(case["steps"]), case["picture"]) for case in same]
    return _curve("Seconds a picture against steps", "steps", points)


def against_batch(report: dict[str, Any]) -> str:
    """A picture's time in a stream against the batch size, at least two, and that of a call of its own as a line."""
    points = [_Point(s["batch"], f"batches of {s['batch']}", s["seconds"]) for s in report["throughput"]]
    call = report["cases"][0]["call"]["p50"]
    return _curve("Seconds a picture against the batch size", "pictures restored together", points, call)


def _curve(title: str, label: str, points: Sequence[_Point], level: float | None = None) -> str:
    """Medians and their intervals over what varies; `level` is drawn across."""
    points = sorted(points, key=lambda point: point.value)
    if not points or points[0].value == points[-1].value:
        return ""
    plot = Plot(title, 300)
    most = max(*(point.spread["high"] for point in points), level or 0.0)
    x = Axis(least=0, most=points[-1].value * 1.06, start=70, end=WIDTH - 60, label=label)
    y = Axis(least=0, most=most * 1.1, start=256, end=30, label="seconds a picture")
    plot.axes(x, y)
    if level is not None:
        plot.line(x.start, y.at(level), x.end, y.at(level), "median", f"a call of its own: {seconds(level)}")
        plot.text(x.end - 4, y.at(level) - 9, "a call of its own", "end", "tick")
    plot.path([(x.at(point.value), y.at(point.spread["p50"])) for point in points], "engine thread")
    for value, name, p in points:
        plot.line(x.at(value), y.at(p["low"]), x.at(value), y.at(p["high"]), "engine reach", name)
        plot.dot(x.at(value), y.at(p["p50"]), "engine", f"{name}: {seconds(p['p50'])}")
        room = x.at(value) + 110 < WIDTH
        side = (x.at(value) + 8, y.at(p["p50"]) + 10) if room else (x.at(value) - 8, y.at(p["p50"]) - 8)
        plot.text(*side, f"{name}, {seconds(p['p50'])}", "start" if room else "end")
    return plot.svg()
