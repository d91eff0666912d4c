"""A report for the terminal. In: a `Report`. Out: lines of at most 120 characters."""

from __future__ import annotations

import math
from collections.abc import Iterator

from export.figures import Figures
from export.verifying.report import FREE, TEACHER, Comparison, EngineReport, Failure, Report
from export.verifying.weights import same_kind

_MOST_WEIGHTS = 5
_HEADINGS = (
    f"{'':26}{'max abs':>10}{'mean abs':>10}{'deviation':>11}{'cosine':>12}{'NaN':>6}{'Inf':>6}   free: deviation"
)


def table(report: Report) -> str:
    """The whole report in words and columns."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.bundle} ({report.precision}) against {report.reference}"
    if report.limits:
        yield f"  this cannot show {report.limits}"
    for note in report.notes:
        yield f"  NOTE: {note}"
    height, width = report.latent
    yield (
        f"  {report.picture}, latent {height}x{width}, {report.steps} steps of order {report.order}, seed {report.seed}"
    )
    for engine in report.engines:
        yield ""
        yield from _engine(engine)


def _engine(engine: EngineReport) -> Iterator[str]:
    yield f"{engine.name}: {'passed' if engine.passed else 'FAILED'}, {engine.seconds:g} s"
    yield f"  {engine.description}; gate: deviation {engine.gate.deviation:.0e}, cosine {engine.gate.cosine}"
    if engine.error:
        yield f"  could not be run: {engine.error}"
    if engine.comparisons:
        yield f"  {_HEADINGS}"
    free = {(one.graph, one.step, one.output): one for one in engine.comparisons if one.mode == FREE}
    for one in engine.comparisons:
        if one.mode == TEACHER:
            yield _row(one, free[one.graph, one.step, one.output])
    latents = [one for one in engine.comparisons if one.graph == "solver"]
    if latents:
        yield "  latents of the free run, deviation after each step: " + ", ".join(
            number(one.figures.deviation) for one in latents
        )
    for part in engine.within:
        yield (
            f"  within {part.graph}: {part.compared} of {part.of} tensors compared by samples, "
            f"largest deviation {number(part.deviation)} ({part.worst})"
        )
    yield from (f"  NOTE: {note}" for note in engine.notes)
    if engine.picture is not None:
        met = engine.picture.psnr >= engine.picture_gate
        yield (
            f"  picture of the free run: PSNR {decibels(engine.picture.psnr)} (at least {engine.picture_gate:g}"
            f"{'' if met else ', NOT MET'}), SSIM {engine.picture.ssim:.6f}"
        )
    for failure in engine.failures:
        yield from (f"  {line}" for line in explanation(failure))


def _row(forced: Comparison, free: Comparison) -> str:
    f = forced.figures
    label = forced.graph if forced.step is None else f"{forced.graph} {forced.step} (t {forced.timestep:g})"
    label += "" if forced.output in ("output", "image", "preprocessed", "condition") else f".{forced.output}"
    return (
        f"  {label:26}{number(f.max_abs):>10}{number(f.mean_abs):>10}{number(f.deviation):>11}{f.cosine:>12.8f}"
        f"{f.nan:>6}{f.inf:>6}   {number(free.figures.deviation):<9}{'' if forced.passed else ' FAILED'}"
    )


def explanation(failure: Failure) -> Iterator[str]:
    """Why a graph fails, in sentences."""
    hidden = ", though the outputs pass: what follows from it is too small to see here" if failure.hidden else ""
    yield f"{place(failure)}: {failure.output} {described(failure.figures)}{hidden}"
    if failure.departure is not None:
        yield from (f"  {line}" for line in _departure(failure))
    if failure.weights is not None:
        yield from (f"  {line}" for line in _weights(failure))
    if failure.islands is not None:
        yield from (f"  {line}" for line in _islands(failure))


def _departure(failure: Failure) -> Iterator[str]:
    found = failure.departure
    assert found is not None
    where = f"tensor {found.tensor} of node {found.node} ({found.operator}"
    where += f", module {found.module})" if found.module else ")"
    searched = f"{found.compared} tensors compared with, {found.runs} runs"
    if found.verdict == "marks":
        yield f"right while intermediate results are kept ({searched}): the engine's rewriting of the graph is at fault"
        return
    if found.verdict == "sum":
        yield f"no tensor departs by itself ({searched}): errors add up; the first beyond the gate is {where}"
        return
    yield f"first departs at {where} ({searched})"
    inputs = max(found.inputs.values(), default=0.0)
    alone = "" if found.alone is None else f"; computed from the reference's own values, it {described(found.alone)}"
    yield f"  it {described(found.figures)}; what it is made of deviates by {number(inputs)} at most{alone}"
    if found.between:
        yield f"  or a node just before it, whose values the reference does not have: {', '.join(found.between)}"


def _weights(failure: Failure) -> Iterator[str]:
    found = failure.weights
    assert found is not None
    if not found.wrong:
        yield f"its {found.compared} weights are the reference's: not they, but what is done with them is wrong"
        return
    kinds = ", ".join(f"{kind} ({count})" for kind, count in list(same_kind(found.wrong))[:_MOST_WEIGHTS])
    yield f"{len(found.wrong)} of {found.compared} weights are not the reference's: {kinds}"
    for weight in found.wrong[:_MOST_WEIGHTS]:
        what = "all zero" if weight.zero else f"deviation {number(weight.figures.deviation)}"
        stored = "" if weight.name == weight.module else f" (stored as {weight.name})"
        yield f"  {weight.module}{stored}: {what}"
    if all(kind.endswith((".keys", ".values")) for kind, _ in same_kind(found.wrong)):
        yield "  these are the prompt: the bundle was exported with another --context or text encoder"


def _islands(failure: Failure) -> Iterator[str]:
    found = failure.islands
    assert found is not None
    if found.smallest is None:
        worst = found.tried[0].figures
        yield f"no float32 island mends it: all of it in float32 {described(worst)}, so precision is not the reason"
        return
    yield (
        f"mended by {found.smallest.size} of {found.values} nodes in float32 ({len(found.tried)} sets tried; "
        f"{found.beyond} values are beyond fp16's range): deviation {number(found.smallest.figures.deviation)}"
    )
    yield f"  nodes: {_some(found.nodes)}"
    if found.modules:
        yield f"  of: {_some(found.modules)}"


def place(failure: Failure) -> str:
    """The graph and its step."""
    if failure.step is None:
        return failure.graph
    return f"{failure.graph}, step {failure.step} (timestep {failure.timestep:g})"


def described(figures: Figures) -> str:
    """Figures as a predicate."""
    if figures.nan or figures.inf:
        return f"holds {figures.nan} NaN and {figures.inf} infinite values"
    if math.isinf(figures.deviation):
        return "has another shape than the reference's"
    return f"deviates by {number(figures.deviation)}, cosine {figures.cosine:.6f}"


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.2e}"


def decibels(value: float) -> str:
    """A PSNR."""
    return f"{value:.1f} dB" if math.isfinite(value) else "infinite: equal"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def first_departure(report: Report) -> str:
    """One sentence on the first engine that failed."""
    failed = [engine for engine in report.engines if not engine.passed]
    engine, others = failed[0], "".join(f"; {other.name} fails too" for other in failed[1:])
    if engine.error:
        return f"{engine.name} could not be run ({engine.error}){others}"
    if not engine.failures:
        assert engine.picture is not None
        return (
            f"{engine.name}: every graph passes by itself, but errors add up: the picture of the free run is at "
            f"{decibels(engine.picture.psnr)}, expected at least {engine.picture_gate:g}; look at its steps{others}"
        )
    failure = engine.failures[0]
    found = failure.departure
    if found is None or found.verdict == "marks":
        where = f"{failure.output} {described(failure.figures)}"
    else:
        first = (
            "the first tensor that departs" if found.verdict == "tensor" else "errors add up; the first beyond the gate"
        )
        where = f"{first} is {found.tensor} (node {found.node}"
        where += f", module {found.module}), " if found.module else "), "
        where += f"which {described(found.figures)}"
    return f"{engine.name}, graph {place(failure)}: {where}; see the report, then export again or take fp32{others}"
