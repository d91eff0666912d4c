"""A command line's pictures, made. In: an open Upscaler and what to make. Out: files, lines, and an exit code."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from engines.bundle import MANIFEST
from engines.errors import CancelledError, DossrError, OutputNotWritableError
from engines.files import sha256_file
from runtime.cli_outputs import Failure, Item
from runtime.cli_progress import Silent, display
from runtime.control import Control
from runtime.images import Picture, check_output, format_of, load_picture, result_depth, result_size, save_picture
from runtime.interrupts import Interrupts
from runtime.journal import Journal, Stamp, stamp
from runtime.result import Result
from runtime.trace import Trace
from runtime.upscaler import Upscaler


def checked_picture(source: Path, output: Path, args: argparse.Namespace) -> Picture:
    """The decoded input, once it is certain that the result can be written.

    Raises:
        ImageError: it cannot be read.
        OutputError, SettingsError, PackageMissingError: see `check_output`.
    """
    picture = load_picture(source)
    check_output(
        output,
        size=result_size(picture, args.scale),
        channels=(1 if picture.grey else 3) + (picture.alpha is not None),
        given_depth=picture.bit_depth,
        quality=args.quality,
        bit_depth=args.bit_depth,
    )
    return picture


def restore_one(upscaler: Upscaler, item: Item, given_depth: int, args: argparse.Namespace, stops: Interrupts) -> None:
    """The one picture that was named itself; what goes wrong is raised."""
    trace = Trace() if args.trace else None
    with display([item.source.name], enabled=not (args.quiet or args.json)) as shown:
        control = Control(on_progress=shown, timeout=args.timeout)
        with stops.cancelling(control):
            result = upscaler(
                item.source,
                scale=args.scale,
                steps=args.steps,
                order=args.order,
                seed=args.seed,
                noise=args.noise,
                color_fix=args.color_fix,
                bit_depth=result_depth(item.output, args.bit_depth, given_depth),
                trace=trace,
                control=control,
            )
        item.output.parent.mkdir(exist_ok=True)
        if trace is not None:
            trace.write(args.trace)
        result.save(item.output, quality=args.quality, bit_depth=args.bit_depth, overwrite=args.overwrite)
        _tell(shown, item, result, args)


class Run:
    """Many pictures: what goes wrong with one is kept for the end.

    Args:
        upscaler: an open one.
        items: what to make.
        args: the parsed arguments.
        journal: where finished ones are noted, or None.
        key: of the settings, for the journal.
        again: outputs that may be replaced, beside --overwrite.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        items: Sequence[Item],
        args: argparse.Namespace,
        journal: Journal | None,
        key: str,
        again: frozenset[Path],
    ) -> None:
        self._upscaler, self._items, self._args = upscaler, items, args
        self._journal, self._key, self._again = journal, key, again
        self._given: dict[Path, Stamp] = {}
        """The inputs' stamps when they were read."""
        self.done = 0
        self.failures: list[Failure] = []

    def __call__(self, stops: Interrupts) -> None:
        """Makes them.

        Raises:
            KeyboardInterrupt: the first signal; the pictures so far are kept.
            DossrError: with --fail-fast, the first.
        """
        args = self._args
        with display([item.source.name for item in self._items], enabled=not (args.quiet or args.json)) as shown:
            control = Control(on_progress=shown, timeout=args.timeout)
            with stops.cancelling(control):
                stream = self._upscaler.stream(
                    self._items,
                    batch=args.batch,
                    scale=args.scale,
                    steps=args.steps,
                    order=args.order,
                    seed=args.seed,
                    noise=args.noise,
                    color_fix=args.color_fix,
                    bit_depth=self._depth(),
                    control=control,
                    load=self._load,
                )
                for number, item in enumerate(self._items, 1):
                    try:
                        self._save(item, next(stream), shown)
                        self.done += 1
                    except CancelledError:
                        raise
                    except DossrError as error:
                        self._failed(shown, item, error)
                    shown.done(number)

    def _depth(self) -> int | None:
        """Of the results: each picture's own where a format may hold it."""
        deep = any(format_of(item.output).deep for item in self._items)
        return self._args.bit_depth or (None if deep else 8)

    def _load(self, item: Item) -> Picture:
        if self._journal is not None and (given := stamp(item.source)) is not None:
            self._given[item.source] = given
        return checked_picture(item.source, item.output, self._args)

    def _save(self, item: Item, result: Result, shown: Silent) -> None:
        try:
            item.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputNotWritableError(
                f"cannot make the folder {item.output.parent}: {error.strerror}; choose another place"
            ) from error
        note = None
        if self._journal is not None:
            given = self._given[item.source]
            write = self._journal.write
            note = partial(write, item.output, source=item.source, given=given, settings=self._key)
        save_picture(
            result.pixels,
            item.output,
            metadata=result.metadata,
            quality=self._args.quality,
            bit_depth=self._args.bit_depth,
            overwrite=self._args.overwrite or item.output in self._again,
            ready=note,
        )
        _tell(shown, item, result, self._args)

    def _failed(self, shown: Silent, item: Item, error: DossrError) -> None:
        self.failures.append(Failure(source=item.source, output=item.output, error=error))
        tell_failure(self.failures[-1], self._args)
        if self._args.fail_fast:
            raise error
        if not (self._args.quiet or self._args.json):
            shown.say(f"{item.source.name} failed: {type(error).__name__}")


def settings_key(args: argparse.Namespace, bundle: Path) -> str:
    """Of everything that changes a picture but its input: the bundle and the settings, not engine and machine."""
    names = ("scale", "steps", "order", "seed", "noise", "color_fix", "quality", "bit_depth")
    settings = {name: getattr(args, name) for name in names} | {"bundle": sha256_file(bundle / MANIFEST)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


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


def report_failures(failures: Sequence[Failure], count: int) -> None:
    """Every failed input with its error, on stderr."""
    if failures:
        print(f"{len(failures)} of {count} pictures failed:", file=sys.stderr)
    for failure in failures:
        text = " ".join(str(failure.error).split())
        print(f"  {failure.source}: {type(failure.error).__name__}: {text}", file=sys.stderr)


def _tell(shown: Silent, item: Item, result: Result, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(_report(item, result, str(args.bundle))), flush=True)
    elif not args.quiet:
        height, width = result.pixels.shape[:2]
        seconds = result.timings["total"]
        shown.say(f"{item.source.name} -> {item.output}, {width}x{height}, {seconds:.2f} s, seed {result.seed}")


def _report(item: Item, result: Result, bundle: str) -> dict[str, object]:
    height, width = result.pixels.shape[:2]
    return {
        "input": str(item.source),
        "output": str(item.output),
        "width": width,
        "height": height,
        "seed": result.seed,
        "timings": {stage: round(seconds, 6) for stage, seconds in result.timings.items()},
        "bit_depth": 16 if result.pixels.dtype == "uint16" else 8,
        "notices": list(result.notices),
        "peak_memory": result.peak_memory,
        "bundle": bundle,
        "engine": result.engine,
        "guard_hits": list(result.guard_hits),
        "replayed": result.replayed,
    }
