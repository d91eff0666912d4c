"""A report for the terminal. In: the report. Out: lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engines.memory import format_size
from runtime.bench.machine import busy


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report in about a screen."""
    processor, ceilings = report["machine"]["processor"], report["ceilings"]
    bundle = report["bundle"]
    yield f"{bundle['folder']}, {bundle['precision']}, {report['engine']}, {report['threads']} threads"
    yield "; ".join(
        [
            f"{processor['model']}, {processor['cores usable']} cores",
            *(f"{gpu['name']}, driver {gpu['driver']}, {gpu['SM clock']}" for gpu in report["machine"]["gpus"]),
            f"ceilings {rate(ceilings['flops'])}FLOP/s ({ceilings['precision']}), {rate(ceilings['copy'])}B/s",
        ]
    )
    if words := busy(report["machine"]):
        yield words
    cold = report["cold"]
    gpu = f", {format_size(cold['gpu_memory'])} on the GPU" if cold["gpu_memory"] else ""
    yield (
        f"fresh process: load {seconds(cold['load']['p50'])}, first picture {seconds(cold['first']['p50'])}, "
        f"peak memory {format_size(cold['peak_memory'])}{gpu}"
    )
    yield ""
    yield f"{'picture':22}{'p50':>10}{'p90':>10}{'p99':>10}   {'median between':24}{'runs':>5}{'overhead':>10}"
    for case in report["cases"]:
        p = case["picture"]
        name = f"{case['width']}x{case['height']}, {steps_label(case['steps'])}"
        interval = f"{seconds(p['low'])} .. {seconds(p['high'])}"
        times = "".join(f"{seconds(p[q]):>10}" for q in ("p50", "p90", "p99"))
        yield f"{name:22}{times}   {interval:24}{p['count']:>5}{case['overhead']:>10.2%}"
    if report["throughput"]:
        yield ""
        head = f"{'stream':22}{'a picture':>10}{'pictures/s':>12}"
        yield f"{head}   {'median between':24}{'pictures':>9}{'of a call':>11}"
    for stream in report["throughput"]:
        s = stream["seconds"]
        interval = f"{seconds(s['low'])} .. {seconds(s['high'])}"
        name = f"batches of {stream['batch']}"
        line = f"{name:22}{seconds(s['p50']):>10}{stream['pictures_per_second']:>12.4g}"
        yield f"{line}   {interval:24}{stream['pictures']:>9}{stream['of_call']:>11.3f}"
    yield ""
    yield f"{'stage':14}{'calls':>6}{'p50':>10}{'p90':>10}{'share':>8}{'GFLOP':>9}{'FLOP/s':>10}{'of ceiling':>12}"
    for stage in report["cases"][0]["stages"]:
        share = "apart" if stage["apart"] else f"{stage['share']:.1%}"
        line = f"{stage['name']:14}{stage['calls']:>6}{seconds(stage['seconds']['p50']):>10}"
        line += f"{seconds(stage['seconds']['p90']):>10}{share:>8}"
        if "flops" in stage:
            line += f"{stage['flops'] / 1e9:>9.1f}{rate(stage['flops_per_second']):>10}{stage['of_ceiling']:>12.0%}"
        yield line
    for name, why in report["cases"][0]["uncounted"].items():
        yield f"{name}: {why}"
    if report["peers"]:
        yield ""
        yield f"{'against':22}{'p50':>10}   {'our time over its (between)':34}{'peak':>10}{'pictures':>12}"
    for peer in report["peers"]:
        ratio = f"{peer['ratio']['p50']:.3f} ({peer['ratio']['low']:.3f} .. {peer['ratio']['high']:.3f})"
        same = "equal" if peer["psnr"] is None else f"{peer['psnr']:.1f} dB"
        peak = format_size(peer["peak_memory"])
        yield f"{peer['name']:22}{seconds(peer['seconds']['p50']):>10}   {ratio:34}{peak:>10}{same:>12}"
    for name, why in report["failed"].items():
        yield f"not compared: {name}: {why}"


def steps_label(count: int) -> str:
    """For people: 1 step, 5 steps."""
    return "1 step" if count == 1 else f"{count} steps"


def seconds(value: float) -> str:
    """For people: 12.3 s, 4.56 ms, 78 us."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if abs(value) * factor >= 0.9995:
            return f"{value * factor:.{max(0, 2 - _digits(value * factor))}f} {unit}"
    return f"{value * 1e6:.0f} us"


def rate(value: float) -> str:
    """With a decimal prefix, to stand before a unit: 205 G."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= factor:
            return f"{value / factor:.{max(0, 2 - _digits(value / factor))}f} {prefix}"
    return f"{value:.0f} "


def _digits(value: float) -> int:
    """Digits before the point, less one."""
    return len(str(int(abs(value)))) - 1
