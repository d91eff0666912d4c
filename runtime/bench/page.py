"""A report as one HTML page. In: the report. Out: the page's text; it loads nothing, and follows light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from engines.memory import format_size
from runtime.bench.machine import busy
from runtime.bench.plots import against, against_batch, distribution, roofline, waterfall
from runtime.bench.table import rate, seconds, steps_label

_STYLE = """
:root{color-scheme:light dark;--ink:#1a1d21;--soft:#59626d;--line:#dde1e6;--paper:#fff;--panel:#f6f7f9;
--engine:#2563a8;--own:#bb540c;--apart:#8b95a1}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9da7b2;--line:#343a42;--paper:#14171b;--panel:#1b1f24;
--engine:#6ba6ea;--own:#ee9447;--apart:#76808c}}
body{margin:0 auto;max-width:940px;padding:24px 20px 60px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:34px 0 6px}p{margin:6px 0}.soft{color:var(--soft)}
.figures{display:flex;flex-wrap:wrap;gap:10px;margin:18px 0}
.figures div{background:var(--panel);border-radius:8px;padding:10px 14px;min-width:120px}
.figures b{display:block;font-size:21px;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;width:100%}
th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:var(--soft)}
td.words,.first td:first-child{white-space:normal;text-align:left}.first td,.first th{padding:4px 5px}
svg{width:100%;height:auto;display:block;background:var(--panel);border-radius:8px;margin:8px 0}
text{font:12px system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--ink)}
text.tick{fill:var(--soft);font-size:11px}
.grid{stroke:var(--line)}.ceiling{stroke:var(--ink);stroke-width:2;fill:none}.median{stroke:var(--ink);stroke-width:2}
.engine{fill:var(--engine);stroke:var(--engine)}.own{fill:var(--own);stroke:var(--own)}
.apart{fill:var(--apart);stroke:var(--apart)}rect.engine,rect.own,rect.apart{stroke:none}
.interval{opacity:.22}.faint{opacity:.6;stroke:none}.reach{stroke-width:2}.thread{fill:none;stroke-width:2}
.hollow{fill:var(--panel);stroke:var(--engine);stroke-width:2}
.key i{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 14px}
"""
_KEY = (
    '<p class="key soft"><i style="background:var(--engine)"></i>engine calls<i style="background:var(--own)"></i>'
    'our own work<i style="background:var(--apart)"></i>files and picture objects, apart</p>'
)


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    case = report["cases"][0]
    sections = [
        ("Where the time goes", waterfall(case) + _KEY + _stages(case)),
        ("Every picture", distribution(report) + _cases(report)),
        ("Against other ways to run it", _peers(report)),
        ("Under the machine's ceilings", _roofline(report)),
        (
            "Latency against size",
            against(report["cases"], True) or _soft("One size was measured (--sizes takes more)."),
        ),
        (
            "Latency against steps",
            against(report["cases"], False) or _soft("One number of steps (--steps takes more)."),
        ),
        ("One after the other, in batches", _batches(report)),
        ("The machine", _machine(report)),
    ]
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in sections if content)
    title = f"{case['width']}x{case['height']} in {seconds(case['picture']['p50'])}"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>dossr bench: {title}</title><style>{_STYLE}</style></head><body>{_head(report)}{body}</body></html>\n"
    )


def _head(report: dict[str, Any]) -> str:
    case, cold = report["cases"][0], report["cold"]
    picture = case["picture"]
    figures = {
        "median picture": seconds(picture["p50"]),
        "p90": seconds(picture["p90"]),
        "p99": seconds(picture["p99"]),
        "load": seconds(cold["load"]["p50"]),
        "first picture": seconds(cold["first"]["p50"]),
        "peak memory": format_size(cold["peak_memory"]),
        "outside engine calls": f"{case['overhead']:.2%}",
    }
    if cold["gpu_memory"]:
        figures["GPU memory"] = format_size(cold["gpu_memory"])
    boxes = "".join(
        f'<div><b>{escape(value)}</b><span class="soft">{name}</span></div>' for name, value in figures.items()
    )
    bundle = report["bundle"]
    return (
        "<h1>dossr bench</h1>"
        f"<p>{case['width']}x{case['height']} enlarged four times in {steps_label(case['steps'])}, "
        f"order {report['order']}. Bundle {escape(bundle['folder'])}, {bundle['precision']}. "
        f"{escape(report['engine'])}, {report['threads']} "
        f'threads.</p><p class="soft">{escape(report["date"])}. {picture["count"]} pictures. '
        f"Median between {seconds(picture['low'])} and {seconds(picture['high'])}: its 95 % interval, widened "
        "to the medians of the rounds. Load, first picture and memory are those of fresh processes.</p>"
        f'{_soft(busy(report["machine"]))}<div class="figures">{boxes}</div>'
    )


def _stages(case: dict[str, Any]) -> str:
    rows = []
    for stage in case["stages"]:
        times = [seconds(stage["seconds"][key]) for key in ("p50", "p90", "p99")]
        share = "apart" if stage["apart"] else f"{stage['share']:.2%}"
        work = [""] * 4
        if "flops" in stage:
            work = [
                f"{stage['flops'] / 1e9:,.1f}",
                f"{stage['least_bytes'] / 1e6:,.0f}",
                rate(stage["flops_per_second"]),
            ]
            work.append(f"{stage['of_ceiling']:.0%}")
        rows.append([stage["name"], str(stage["calls"]), *times, share, *work])
    head = ["stage", "calls", "p50", "p90", "p99", "share", "GFLOP", "least MB", "FLOP/s", "of ceiling"]
    uncounted = "".join(_soft(f"{name}: {why}") for name, why in case["uncounted"].items())
    return (
        _table(head, rows)
        + uncounted
        + _soft(
            f"Spans cover {case['coverage']:.2%} of the call in the worst run. GFLOP are two for each multiply-add of "
            "the exported graphs; of ceiling is the least time that the measured ceilings allow over the time taken."
        )
    )


def _cases(report: dict[str, Any]) -> str:
    rows = []
    for case in report["cases"]:
        p = case["picture"]
        times = [seconds(p[key]) for key in ("least", "p50", "p90", "p99", "most")]
        rows.append([f"{case['width']}x{case['height']}, {steps_label(case['steps'])}", str(p["count"]), *times])
    return _table(["picture", "runs", "least", "p50", "p90", "p99", "most"], rows) if len(rows) > 1 else ""


def _batches(report: dict[str, Any]) -> str:
    rows = []
    for stream in report["throughput"]:
        s = stream["seconds"]
        times = [seconds(s[key]) for key in ("p50", "low", "high")]
        figures = [f"{stream['pictures_per_second']:.4g}", f"{stream['of_call']:.3f}"]
        rows.append([f"batches of {stream['batch']}", str(stream["pictures"]), *times, *figures])
    if not rows:
        return _soft("No batch size was asked for (--batch).")
    head = ["stream", "pictures", "a picture", "low", "high", "pictures a second", "of a call"]
    words = (
        "Upscaler.stream: loading and finishing overlap with the restoration of other pictures. Of a call: a picture's "
        "time over that of a call of its own, loading and finishing included in both."
    )
    return against_batch(report) + _table(head, rows) + _soft(words)


def _peers(report: dict[str, Any]) -> str:
    rows = []
    for peer in report["peers"]:
        r = peer["ratio"]
        same = "equal" if peer["psnr"] is None else f"{peer['psnr']:.1f} dB"
        rows.append(
            [
                peer["description"],
                seconds(peer["seconds"]["p50"]),
                f"{r['p50']:.3f}",
                f"{r['low']:.3f} .. {r['high']:.3f}",
                *(f"{peer['stages'][name]['ratio']:.2f}" for name in ("preprocess", "encode", "denoise", "decode")),
                seconds(peer["load"]),
                format_size(peer["peak_memory"]),
                same,
            ]
        )
    failed = "".join(_soft(f"Not compared: {name}: {why}") for name, why in report["failed"].items())
    if not rows:
        return failed or _soft("Nobody was asked for (--against).")
    head = ["peer", "p50", "ratio", "between", "preprocess", "encode", "denoise", "decode", "load", "peak", "pictures"]
    words = "Ratios are our time over theirs, taken within the rounds of this run: below 1 we are faster."
    return f'<div class="first">{_table(head, rows)}</div>' + _soft(words) + failed


def _roofline(report: dict[str, Any]) -> str:
    c = report["ceilings"]
    rates = f"{rate(c['product'])}FLOP/s in a matrix product, {rate(c['convolution'])}FLOP/s in a convolution"
    words = (
        f"Ceilings, the better of before and after the run: {rates} ({c['precision']}), {rate(c['copy'])}B/s read and "
        f"written in a copy ({c['how']}). Each stage lies between the bytes of every operator (hollow) and the least "
        "bytes, weights and ends once (full)."
    )
    return roofline(report) + _soft(words)


def _machine(report: dict[str, Any]) -> str:
    machine = report["machine"]
    facts = [*machine["processor"].items(), *machine["system"].items()]
    facts += [(f"GPU: {name}", value) for gpu in machine["gpus"] for name, value in gpu.items()]
    facts += [
        (f"GPU after: {name}", gpu[name]) for gpu in machine["gpus after"] for name in ("SM clock", "temperature")
    ]
    facts += [(f"version: {name}", value) for name, value in machine["versions"].items()]
    facts += [("checkpoint", report["bundle"]["checkpoint"].get("file")), ("command", " ".join(report["command"]))]
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="words">{escape(_fact(name, value))}</td></tr>'
        for name, value in facts
        if value is not None
    )
    return f'<div class="wide"><table>{rows}</table></div>'


def _fact(name: str, value: Any) -> str:
    return format_size(value) if name.startswith("memory") and isinstance(value, int) else str(value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f'<div class="wide"><table>{row(head, "th")}{"".join(row(r, "td") for r in rows)}</table></div>'


def _soft(words: str) -> str:
    return f'<p class="soft">{escape(words)}</p>' if words else ""
