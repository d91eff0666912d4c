"""A report as one HTML page. In: an `Outcome`. Out: text that needs nothing beside it: styles, drawings and pictures
are in it, and no script.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from html import escape

from export.figures import Figures
from export.verifying.chart import chart
from export.verifying.judge import Outcome
from export.verifying.pictures import difference_png, png
from export.verifying.report import FREE, TEACHER, EngineReport, Failure, Report
from export.verifying.table import decibels, explanation, number, place

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1d21; --soft: #5c6670; --paper: #fcfcfb; --panel: #f1f2f0; --edge: #d5d8d4;
  --good: #1b6e3c; --bad: #b3261e; --one: #2563a8; --two: #b0541e; --three: #6d4aa0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #9aa4ae; --paper: #15181b; --panel: #1e2226;
  --edge: #363c42; --good: #6cc58c; --bad: #ff8a80; --one: #7db4ee; --two: #f0a070; --three: #bda0ec; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; } p { margin: .25rem 0 .75rem; } .soft { color: var(--soft); }
.mark { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid var(--edge); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); } th:first-child, td:first-child { text-align: left; }
tr.fails td { background: color-mix(in srgb, var(--bad) 14%, transparent); }
pre { background: var(--panel); border-left: 3px solid var(--bad); padding: .75rem 1rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace; margin: .5rem 0; }
.note { background: var(--panel); border-left: 3px solid var(--two); padding: .5rem 1rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; flex: 1 1 15rem; max-width: 24rem; }
img { width: 100%; image-rendering: pixelated; border: 1px solid var(--edge); display: block; }
figcaption { font-size: .85rem; color: var(--soft); }
svg { width: 100%; max-width: 44rem; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
svg line, svg polyline { fill: none; stroke-width: 2; } svg .grid { stroke: var(--edge); stroke-width: 1; }
svg .gate { stroke: var(--bad); stroke-dasharray: 6 4; } svg .teacher { stroke: var(--one); }
svg .free { stroke: var(--two); stroke-dasharray: 7 3; } svg .latent { stroke: var(--three); stroke-dasharray: 2 3; }
svg circle { fill: var(--paper); stroke-width: 2; stroke-dasharray: none !important; }
"""


def page(outcome: Outcome) -> str:
    """The whole page."""
    report = outcome.report
    title = f"dossr verify: {escape(report.bundle)}"
    body = "\n".join(
        [*_head(report), *_overview(report), *(line for e in report.engines for line in _engine(outcome, e))]
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _head(report: Report) -> Iterator[str]:
    height, width = report.latent
    yield f"<h1>Does the engine compute what the network computes? {_mark(report.passed)}</h1>"
    yield (
        f"<p><strong>{escape(report.bundle)}</strong> ({escape(report.precision)}) against "
        f"<strong>{escape(report.reference)}</strong>.</p>"
    )
    yield (
        f'<p class="soft">{escape(report.picture)}, latent {height}x{width}, {report.steps} steps of {report.solver} '
        f"order {report.order}, seed {report.seed}. {escape(report.when)}, {report.seconds:g} s. "
        f"{escape(', '.join(f'{tool} {version}' for tool, version in report.tools.items()))}.</p>"
    )
    if report.limits:
        yield f'<p class="note">This cannot show {escape(report.limits)}.</p>'
    for note in report.notes:
        yield f'<p class="note">{escape(note)}.</p>'


def _overview(report: Report) -> Iterator[str]:
    yield "<h2>Engines</h2>"
    yield (
        '<p class="soft">Largest deviation of each graph when it is given the reference\'s inputs: '
        "max(|difference| / max(standard deviation of the reference, |reference|)).</p>"
    )
    rows = []
    for engine in report.engines:
        cells = []
        for graph in report.graphs:
            worst = engine.worst(graph)
            cells.append("" if worst is None else _judged(worst, passed=_graph_passed(engine, graph)))
        psnr = "" if engine.picture is None else decibels(engine.picture.psnr)
        ssim = "" if engine.picture is None else f"{engine.picture.ssim:.6f}"
        met = engine.picture is not None and engine.picture.psnr >= engine.picture_gate
        picture = f'<span class="{"good" if met else "bad"}">{psnr}</span>'
        name = f'<a href="#{escape(engine.name)}">{escape(engine.name)}</a>'
        rows.append(([name, _mark(engine.passed), *cells, picture, ssim], not engine.passed))
    yield _table(["engine", "", *report.graphs, "PSNR", "SSIM"], rows)


def _engine(outcome: Outcome, engine: EngineReport) -> Iterator[str]:
    yield f'<h2 id="{escape(engine.name)}">{escape(engine.name)} {_mark(engine.passed)}</h2>'
    yield (
        f'<p class="soft">{escape(engine.description)}; {engine.seconds:g} s. Gate of a graph: deviation '
        f"{engine.gate.deviation:g}, cosine {engine.gate.cosine}; of the picture: {engine.picture_gate:g} dB.</p>"
    )
    if engine.error:
        yield f"<pre>could not be run: {escape(engine.error)}</pre>"
    for note in engine.notes:
        yield f'<p class="note">{escape(note)}.</p>'
    for failure in engine.failures:
        yield from _failure(failure)
    if engine.name in outcome.pictures:
        yield from _pictures(outcome, engine)
    if drawing := chart(engine):
        yield "<h3>Deviation by step</h3>"
        yield drawing
    yield from _figures(engine)
    if engine.within:
        yield "<h3>Intermediate results</h3>"
        yield '<p class="soft">Of each graph\'s first call, by up to 4,096 evenly spaced elements of each tensor.</p>'
        rows = [
            ([escape(one.graph), f"{one.compared} of {one.of}", number(one.deviation), escape(one.worst)], False)
            for one in engine.within
        ]
        yield _table(["graph", "tensors compared", "largest deviation", "at"], rows)


def _failure(failure: Failure) -> Iterator[str]:
    yield f"<h3>{escape(place(failure))}</h3>"
    yield f"<pre>{escape(chr(10).join(explanation(failure)))}</pre>"
    if failure.islands is not None and failure.islands.smallest is not None:
        yield '<p class="soft">Sets of nodes that were computed in float32:</p>'
        rows = [
            (
                [escape(one.label), str(one.size), number(one.figures.deviation), "mends" if one.mends else ""],
                False,
            )
            for one in failure.islands.tried
        ]
        yield _table(["set", "nodes", "deviation", ""], rows)


def _pictures(outcome: Outcome, engine: EngineReport) -> Iterator[str]:
    picture = outcome.pictures[engine.name]
    difference, factor = difference_png(picture, outcome.reference)
    yield "<h3>Pictures of the free run</h3>"
    likely = engine.picture
    if likely is not None:
        yield (
            f'<p class="soft">Decoded, before the color fix. PSNR {decibels(likely.psnr)}, SSIM {likely.ssim:.6f}, '
            f"largest difference {likely.max_abs:.2e}.</p>"
        )
    yield '<div class="pictures">'
    for data, words in (
        (png(outcome.reference), "the reference"),
        (png(picture), escape(engine.name)),
        (difference, f"their difference, times {factor:g}, around grey; what is not a number is magenta"),
    ):
        source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
        yield f'<figure><img alt="{words}" src="{source}"><figcaption>{words}</figcaption></figure>'
    yield "</div>"


def _figures(engine: EngineReport) -> Iterator[str]:
    if not engine.comparisons:
        return
    yield "<h3>Every call</h3>"
    free = {(one.graph, one.step, one.output): one.figures for one in engine.comparisons if one.mode == FREE}
    rows = []
    for one in engine.comparisons:
        if one.mode == TEACHER:
            label = one.graph if one.step is None else f"{one.graph}, step {one.step}, t {one.timestep:g}"
            f, own = one.figures, free[one.graph, one.step, one.output]
            cells = [escape(label), escape(one.output), number(f.max_abs), number(f.mean_abs), number(f.deviation)]
            cells += [f"{f.cosine:.8f}", str(f.nan), str(f.inf), number(own.deviation), f"{own.cosine:.8f}"]
            rows.append((cells, one.passed is False))
    headings = ["call", "output", "max abs", "mean abs", "deviation", "cosine", "NaN", "Inf"]
    yield _table([*headings, "free: deviation", "free: cosine"], rows)


def _table(headings: Sequence[str], rows: Sequence[tuple[Sequence[str], bool]]) -> str:
    """Cells are HTML; rows that fail are colored."""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join(
        f"<tr{' class=fails' if fails else ''}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for cells, fails in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _mark(passed: bool) -> str:
    return f'<span class="mark {"good" if passed else "bad"}">{"passed" if passed else "FAILED"}</span>'


def _judged(figures: Figures, *, passed: bool) -> str:
    words = number(figures.deviation) if math.isfinite(figures.deviation) else f"{figures.nan + figures.inf} NaN, Inf"
    return f'<span class="{"good" if passed else "bad"}">{words}</span>'


def _graph_passed(engine: EngineReport, graph: str) -> bool:
    failed = any(one.graph == graph for one in engine.failures)
    return not failed and all(one.passed is not False for one in engine.comparisons if one.graph == graph)
