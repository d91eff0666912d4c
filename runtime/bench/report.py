"""The report. In: what was measured and counted. Out: one dictionary of plain values, which is the JSON file.

The terminal's table (`runtime.bench.table`) and the page (`runtime.bench.page`) are made of it alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from engines.bundle import Bundle
from engines.errors import DossrError
from engines.profiles import Profile, axis_sizes
from runtime.bench.ceilings import Ceilings
from runtime.bench.cold import Cold
from runtime.bench.measure import CODECS, ENGINE, Measured
from runtime.bench.peers import Peer, psnr, ratios
from runtime.bench.spread import Spread, spread
from runtime.bench.throughput import Throughput
from runtime.bench.work import Work, graph_work
from runtime.workspace import working_size

SCHEMA = 1
_PARTS = {"denoise": ("denoise", "controlnet", "unet")}
"""Span to the graphs that may stand behind it, where that is not the one of its name."""


def case_report(bundle: Bundle, profiles: Sequence[Profile], measured: Measured, ceilings: Ceilings) -> dict[str, Any]:
    """A case's figures, its stages with their work and how near they come to the machine's ceilings."""
    works, uncounted = stage_works(bundle, profiles, measured.case.width, measured.case.height)
    return {
        "width": measured.case.width,
        "height": measured.case.height,
        "steps": sum(span.name == "solver" for span in measured.typical.spans),
        "batch": 1,
        "picture": asdict(measured.picture),
        "call": asdict(measured.total),
        "coverage": measured.coverage,
        "overhead": measured.overhead,
        "seconds": list(measured.seconds),
        "uncounted": uncounted,
        "stages": [
            {
                "name": name,
                "calls": stage.calls,
                "engine": name in ENGINE,
                "apart": name in (*CODECS, "save"),
                "seconds": asdict(stage.seconds),
                "share": stage.seconds.p50 / measured.picture.p50,
            }
            | (roofline(works[name], stage.calls, stage.seconds.p50, ceilings) if name in works else {})
            for name, stage in measured.stages.items()
        ],
        "spans": [[span.name, span.step, span.start * 1e-9, span.end * 1e-9] for span in measured.typical.spans],
    }


def stage_works(
    bundle: Bundle, profiles: Sequence[Profile], width: int, height: int
) -> tuple[dict[str, Work], dict[str, str]]:
    """Work of each engine call for a picture of that size, from the canonical graphs; and why where it is not known."""
    sizes = axis_sizes(working_size(profiles, width, height))
    works: dict[str, Work] = {}
    unknown: dict[str, str] = {}
    for name in ENGINE:
        for graph in _PARTS.get(name, (name,)):
            entry = bundle.manifest.graphs.get(graph)
            if entry is None:
                continue
            try:
                work = graph_work(bundle.path(entry.file), sizes)
            except DossrError as error:
                unknown[name] = str(error)
                continue
            works[name] = works[name] + work if name in works else work
    return {name: work for name, work in works.items() if name not in unknown}, unknown


def roofline(work: Work, calls: int, seconds: float, ceilings: Ceilings) -> dict[str, Any]:
    """What a stage did a second, and the part of what the machine could: the time that the ceilings ask for its
    arithmetic or its least bytes, whichever is more, over the time that it took.
    """
    floor = calls * max(work.flops / ceilings.flops, work.least_bytes / ceilings.copy)
    return {
        "flops": calls * work.flops,
        "least_bytes": calls * work.least_bytes,
        "unfused_bytes": calls * work.unfused_bytes,
        "flops_per_second": calls * work.flops / seconds,
        "of_arithmetic": calls * work.flops / seconds / ceilings.flops,
        "of_ceiling": floor / seconds,
    }


def throughput_report(found: Throughput, call: Spread) -> dict[str, Any]:
    """A batch size's seconds a picture, and how many calls of one picture take as long as one of its pictures.

    Args:
        found: of the batch size.
        call: seconds of a whole call of one picture, in the same rounds.
    """
    return {
        "width": found.case.width,
        "height": found.case.height,
        "batch": found.batch,
        "pictures": found.pictures,
        "seconds": asdict(found.seconds),
        "rounds": list(found.rounds),
        "pictures_per_second": 1 / found.seconds.p50,
        "of_call": found.seconds.p50 / call.p50,
    }


def cold_report(colds: Sequence[Cold]) -> dict[str, Any]:
    """Load time, first picture and memory of the fresh processes."""
    figures = {name: asdict(spread([[getattr(cold, name)] for cold in colds])) for name in ("start", "load", "first")}
    gpu = [cold.gpu_memory for cold in colds if cold.gpu_memory is not None]
    return figures | {
        "processes": len(colds),
        "peak_memory": max(cold.peak_memory for cold in colds),
        "gpu_memory": max(gpu) if gpu else None,
    }


def peer_report(peer: Peer, ours: Sequence[Sequence[float]], our_stages: Mapping[str, float], result: Any) -> Any:
    """A peer's times, our time over its, and how much the pictures differ.

    Args:
        peer: after its rounds.
        ours: our seconds in the same rounds.
        our_stages: median seconds by the names of its stages.
        result: our picture of the same noise, a file.
    """
    answers = [answer for answers in peer.rounds for answer in answers]
    stages = {
        name: spread([[a["timings"][name] for a in answers] for answers in peer.rounds]).p50 for name in our_stages
    }
    theirs = [[answer["seconds"] for answer in answers] for answers in peer.rounds]
    difference = psnr(peer.result, result)
    gpu = [a["gpu_memory"] for a in answers if a["gpu_memory"] is not None]
    return {
        "name": peer.name,
        "description": peer.loaded["description"],
        "load": peer.loaded["load"],
        "seconds": asdict(spread(theirs)),
        "runs": [second for seconds in theirs for second in seconds],
        "ratio": asdict(ratios(ours, theirs)),
        "stages": {name: {"seconds": s, "ratio": our_stages[name] / s if s else None} for name, s in stages.items()},
        "peak_memory": answers[-1]["peak_memory"],
        "gpu_memory": max(gpu) if gpu else None,
        "psnr": difference if math.isfinite(difference) else None,
    }
