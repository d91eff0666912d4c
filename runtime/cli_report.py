"""What a command line tells. In: results, failures, plans. Out: lines for people, JSON for programs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from engines.errors import DossrError
from runtime.cli_outputs import Failure, Item
from runtime.cli_progress import Silent
from runtime.images import picture_size
from runtime.result import Report, Result
from runtime.tiles import Tiling
from runtime.upscaler import Upscaler


def tell_failure(failure: Failure, args: argparse.Namespace) -> None:
    """The JSON line of a failure, with --json."""
    if args.json:
        line = {
            "input": str(failure.source),
            "output": None if failure.output is None else str(failure.output),
            "error": type(failure.error).__name__,
            "message": str(failure.error),
        }
        print(json.dumps(line), flush=True)


def tell_plans(upscaler: Upscaler, items: Sequence[Item], args: argparse.Namespace) -> list[Failure]:
    """A line on what each picture will take, or its JSON object; those that cannot be made."""
    tiling: Tiling = args.tiling
    failures = []
    for item in items:
        try:
            plan = upscaler.plan(
                picture_size(item.source),
                steps=args.steps,
                order=args.order,
                color_fix=args.color_fix,
                tile=tiling.tile,
                tile_overlap=tiling.overlap,
                tile_batch=tiling.batch,
                measure=True,
            )
        except DossrError as error:
            failures.append(Failure(source=item.source, output=item.output, error=error))
            tell_failure(failures[-1], args)
            continue
        line = {"input": str(item.source)} | dataclasses.asdict(plan)
        print(json.dumps(line) if args.json else f"{item.source.name}: {plan}", flush=True)
    return failures


def report_failures(failures: Sequence[Failure], count: int) -> None:
    """Every failed input with its error, on stderr."""
    if failures:
        print(f"{len(failures)} of {count} pictures failed:", file=sys.stderr)
    for failure in failures:
        text = " ".join(str(failure.error).split())
        print(f"  {failure.source}: {type(failure.error).__name__}: {text}", file=sys.stderr)


def form_of(result: Result) -> tuple[tuple[int, int], int]:
    """(width, height), and bits a channel."""
    height, width = result.pixels.shape[:2]
    return (width, height), 16 if result.pixels.dtype == "uint16" else 8


def tell_result(
    shown: Silent, item: Item, result: Report, size: tuple[int, int], bits: int, args: argparse.Namespace
) -> None:
    """A picture's line, or its JSON object.

    Args:
        shown: where lines go.
        item: what was made.
        result: how it came about.
        size: (width, height) of the file.
        bits: a channel.
        args: the parsed arguments.
    """
    width, height = size
    if args.json:
        print(json.dumps(_report(item, result, size, bits, str(args.bundle))), flush=True)
    elif not args.quiet:
        seconds = result.timings["total"]
        shown.say(f"{item.source.name} -> {item.output}, {width}x{height}, {seconds:.2f} s, seed {result.seed}")


def _report(item: Item, result: Report, size: tuple[int, int], bits: int, bundle: str) -> dict[str, object]:
    width, height = size
    return {
        "input": str(item.source),
        "output": str(item.output),
        "width": width,
        "height": height,
        "seed": result.seed,
        "timings": {stage: round(seconds, 6) for stage, seconds in result.timings.items()},
        "bit_depth": bits,
        "notices": list(result.notices),
        "peak_memory": result.peak_memory,
        "bundle": bundle,
        "engine": result.engine,
        "guard_hits": list(result.guard_hits),
        "replayed": result.replayed,
    }
