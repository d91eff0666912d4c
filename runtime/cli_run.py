"""A command line's pictures, made. In: an open Upscaler and what to make. Out: files, lines, and an exit code."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from engines.bundle import MANIFEST
from engines.errors import CancelledError, DossrError
from engines.files import sha256_file
from runtime.cli_outputs import Failure, Item
from runtime.cli_progress import Silent, display
from runtime.cli_report import form_of, tell_failure, tell_result
from runtime.control import Control
from runtime.file_rows import FileRows, make_folder
from runtime.images import (
    Picture,
    check_output,
    format_of,
    load_picture,
    result_depth,
    result_size,
    save_picture,
)
from runtime.interrupts import Interrupts
from runtime.journal import Journal, Stamp, stamp
from runtime.result import Result
from runtime.tiles import Tiling
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


def restore_one(upscaler: Upscaler, item: Item, picture: Picture, args: argparse.Namespace, stops: Interrupts) -> None:
    """The one picture that was named itself; what goes wrong is raised. In tiles it is written as it is made."""
    trace = Trace() if args.trace else None
    tiling: Tiling = args.tiling
    with display([item.source.name], enabled=not (args.quiet or args.json)) as shown:
        control = Control(on_progress=shown, timeout=args.timeout)
        with stops.cancelling(control):
            size = picture.width, picture.height
            if trace is None and upscaler.plan(size, tile=tiling.tile, tile_overlap=tiling.overlap).tiles > 1:
                item.output.parent.mkdir(exist_ok=True)
                report = upscaler.write(
                    picture,
                    item.output,
                    scale=args.scale,
                    quality=args.quality,
                    bit_depth=args.bit_depth,
                    overwrite=args.overwrite,
                    steps=args.steps,
                    order=args.order,
                    seed=args.seed,
                    noise=args.noise,
                    color_fix=args.color_fix,
                    tile=tiling.tile,
                    tile_overlap=tiling.overlap,
                    tile_batch=tiling.batch,
                    control=control,
                )
                bits = result_depth(item.output, args.bit_depth, picture.bit_depth)
                return tell_result(shown, item, report, result_size(picture, args.scale), bits, args)
            result = upscaler(
                picture,
                scale=args.scale,
                steps=args.steps,
                order=args.order,
                seed=args.seed,
                noise=args.noise,
                color_fix=args.color_fix,
                bit_depth=result_depth(item.output, args.bit_depth, picture.bit_depth),
                tile=tiling.tile,
                tile_overlap=tiling.overlap,
                tile_batch=tiling.batch,
                trace=trace,
                control=control,
            )
        item.output.parent.mkdir(exist_ok=True)
        if trace is not None:
            trace.write(args.trace)
        result.save(item.output, quality=args.quality, bit_depth=args.bit_depth, overwrite=args.overwrite)
        return tell_result(shown, item, result, *form_of(result), args)


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
        self._written: dict[int, FileRows] = {}
        """Files of pictures in tiles, which are written as these are made, by number."""
        self.done = 0
        self.failures: list[Failure] = []

    def __call__(self, stops: Interrupts) -> None:
        """Makes them.

        Raises:
            KeyboardInterrupt: the first signal; the pictures so far are kept.
            DossrError: with --fail-fast, the first.
        """
        args, tiling = self._args, self._args.tiling
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
                    tile=tiling.tile,
                    tile_overlap=tiling.overlap,
                    tile_batch=tiling.batch,
                    control=control,
                    load=self._load,
                    sink=self._open,
                )
                try:
                    for number, item in enumerate(self._items):
                        try:
                            self._keep(number, item, next(stream), shown)
                            self.done += 1
                        except CancelledError:
                            raise
                        except DossrError as error:
                            self._failed(shown, item, error)
                        shown.done(number + 1)
                finally:
                    for rows in self._written.values():
                        rows.discard()

    def _depth(self) -> int | None:
        """Of the results: each picture's own where a format may hold it."""
        deep = any(format_of(item.output).deep for item in self._items)
        return self._args.bit_depth or (None if deep else 8)

    def _load(self, item: Item) -> Picture:
        if self._journal is not None and (given := stamp(item.source)) is not None:
            self._given[item.source] = given
        return checked_picture(item.source, item.output, self._args)

    def _open(self, picture: Picture, number: int) -> FileRows:
        """The file of a picture in tiles."""
        item, args = self._items[number], self._args
        rows = FileRows(
            item.output,
            picture,
            scale=args.scale,
            quality=args.quality,
            bit_depth=args.bit_depth,
            overwrite=self._replaces(item),
            make_folder=True,
            ready=self._note(item),
        )
        self._written[number] = rows
        return rows

    def _keep(self, number: int, item: Item, result: Result, shown: Silent) -> None:
        """Gives the picture's file its name."""
        rows = self._written.pop(number, None)
        if rows is not None:
            rows.close()
            return tell_result(shown, item, result, rows.size, rows.bits, self._args)
        make_folder(item.output.parent)
        save_picture(
            result.pixels,
            item.output,
            metadata=result.metadata,
            quality=self._args.quality,
            bit_depth=self._args.bit_depth,
            overwrite=self._replaces(item),
            ready=self._note(item),
        )
        return tell_result(shown, item, result, *form_of(result), self._args)

    def _replaces(self, item: Item) -> bool:
        return self._args.overwrite or item.output in self._again

    def _note(self, item: Item) -> Callable[[Path], None] | None:
        """Writes the journal's line, before the file has its name."""
        if self._journal is None:
            return None
        given, write = self._given[item.source], self._journal.write
        return partial(write, item.output, source=item.source, given=given, settings=self._key)

    def _failed(self, shown: Silent, item: Item, error: DossrError) -> None:
        self.failures.append(Failure(source=item.source, output=item.output, error=error))
        tell_failure(self.failures[-1], self._args)
        if self._args.fail_fast:
            raise error
        if not (self._args.quiet or self._args.json):
            shown.say(f"{item.source.name} failed: {type(error).__name__}")


def settings_key(args: argparse.Namespace, bundle: Path) -> str:
    """Of everything that changes a picture but its input: the bundle and the settings, not engine and machine."""
    names = ("scale", "steps", "order", "seed", "noise", "color_fix", "quality", "bit_depth", "tile", "tile_overlap")
    settings = {name: getattr(args, name) for name in names} | {"bundle": sha256_file(bundle / MANIFEST)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
