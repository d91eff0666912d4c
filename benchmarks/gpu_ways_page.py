"""The table of benchmarks/gpu_ways.py. In: its report. Out: Markdown as docs/measurements/ keeps it, and the winner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RIGHT = 45.0
"""dB to the first way's picture; fp16 against fp32 on the small models is at 57."""
STAGES = ("preprocess", "encode", "denoise", "decode", "own")


def winner(rows: Mapping[str, Any], *, streamed: bool) -> str:
    """The fastest way whose picture is right, and of the calls of one picture the first, unless another is faster in
    every round than the noise.
    """
    first = next(iter(rows))
    kept = {name: row["ratio"] for name, row in rows.items() if row.get("right") and row["streamed"] == streamed}
    if not kept:
        return "none"
    best = min(kept, key=lambda name: kept[name]["p50"])
    if first in kept and kept[best]["high"] >= min(1.0, kept[first]["low"]):
        return f"{first} (nobody is faster beyond the noise)"
    return f"{best} ({kept[best]['p50']:.3f} of the first way's time)"


def page(report: Mapping[str, Any]) -> str:
    """The table, as docs/measurements/ keeps it."""
    case, rows = report["case"], report["ways"]
    gpus = ", ".join(f"{gpu['name']}, driver {gpu['driver']}" for gpu in report["machine"]["gpus"]) or "no GPU"
    versions = ", ".join(f"{name} {version}" for name, version in report["machine"]["versions"].items())
    lines = [
        f"# Ways to run {report['bundle']} on {report['device']}",
        "",
        f"{report['date']}; {gpus}; {report['machine']['processor']['model']}; {versions}.",
        f"{case['width']}x{case['height']} pixels, {report['rounds']} rounds of {report['runs']}, in turns with",
        "the first way. ms: median of a picture. Ratio: to the first way in the same rounds (least and most of them).",
        f"dB: the picture against the first way's; below {RIGHT:g} a way does not count.",
        "",
        f"    {report['command']}",
        "",
        "| way | ms | ratio | " + " | ".join(STAGES) + " | load, s | GPU, GiB | dB |",
        "| --- |" + " --- |" * (len(STAGES) + 5),
    ]
    for name, row in rows.items():
        if "why" in row:
            lines.append(f"| {name} | {row['why']} |" + " |" * (len(STAGES) + 4))
            continue
        r = row["ratio"]
        cells = [f"{row['seconds']['p50'] * 1e3:.2f}", f"{r['p50']:.3f} ({r['low']:.3f} .. {r['high']:.3f})"]
        cells += [f"{row['stages'][stage] * 1e3:.2f}" for stage in STAGES]
        cells += [f"{row['load']:.1f}", "" if row["memory"] is None else f"{row['memory'] / 2**30:.2f}"]
        cells.append(("equal" if row["psnr"] is None else f"{row['psnr']:.1f}") + ("" if row["right"] else ", WRONG"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"One picture at a time: {report['winner']}. Many: {report['winner of streams']}.", ""]
    return "\n".join(lines)
