"""What a command line is to make. In: parsed arguments. Out: inputs and their outputs, before anything is written."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.errors import (
    DossrError,
    ImageNotFoundError,
    OutputExistsError,
    OutputNotWritableError,
    SettingsError,
)
from engines.files import check_writable
from runtime.images import FORMATS, check_settings, picture_size, scaled
from runtime.inputs import Found, Input, expand, listed
from runtime.names import DEFAULT, check_collisions, parse_template


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture to make."""

    source: Path
    output: Path


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One picture that could not be made."""

    source: Path
    output: Path | None
    error: DossrError


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """All of them."""

    items: tuple[Item, ...]
    failures: tuple[Failure, ...] = ()
    """Inputs whose names cannot be told, as they cannot be read."""
    folder: Path | None = None
    """The output folder; None where the output is a file."""
    alone: bool = False
    """Whether the one input was named itself."""
    passed_over: int = 0
    """Files in folders that are no pictures."""


def find_inputs(args: argparse.Namespace) -> Found:
    """Every input file: arguments, then lists (`-`: stdin's place among the arguments).

    Raises:
        ImageNotFoundError: none at all; or as of `expand`.
        SettingsError: no input was named.
    """
    names: list[str] = []
    for name in args.input:
        names += listed(sys.stdin.read()) if name == "-" else [name]
    if args.list is not None:
        names += _list_file(args.list)
    if not args.input and args.list is None:
        raise SettingsError("no INPUT and no --list; name image files, folders, patterns, or - for a list from stdin")
    if not is_folder_name(args.output):
        for name in names:
            if os.path.isdir(name):  # noqa: PTH112, a name that is too long is none
                raise ImageNotFoundError(
                    f"{name} is a folder; name the image files in it, or give a folder as --output"
                )
    found = expand(names, recursive=args.recursive, leave_out=args.output)
    if not found.pictures:
        over = f" (files passed over: {found.passed_over})" if found.passed_over else ""
        raise ImageNotFoundError(f"there is no picture in {', '.join(names) or 'the list'}{over}; check the paths")
    return found


def plan_outputs(args: argparse.Namespace, steps: int) -> Outputs:
    """One output an input; nothing is written yet.

    Args:
        args: the parsed arguments.
        steps: that are taken, for names.

    Raises:
        SettingsError: options contradict each other, or names collide.
        ImageNotFoundError: see `find_inputs`.
        OutputNotWritableError: the place cannot be written to.
    """
    found = find_inputs(args)
    alone = len(args.input) == len(found.pictures) == 1 and str(found.pictures[0].path) == str(Path(args.input[0]))
    folder = is_folder_name(args.output)
    if args.trace and not alone:
        raise SettingsError(f"--trace takes one input, not {len(found.pictures)}; run them one by one")
    if not folder:
        _check_file(args, len(found.pictures))
        items = tuple(Item(source=given.path, output=args.output) for given in found.pictures)
        failures: list[Failure] = []
    else:
        items, failures = _named(args, found.pictures, steps)
    check_collisions([item.output for item in items], [item.source for item in items])
    _check_places(args, items, folder=folder)
    return Outputs(
        items=items,
        failures=tuple(failures),
        folder=args.output if folder else None,
        alone=alone,
        passed_over=found.passed_over,
    )


def is_folder_name(path: Path) -> bool:
    """Whether an output of that name is a folder: it is there as one, or has no suffix."""
    try:
        return not path.suffix or path.is_dir()
    except OSError:  # a name that is too long: refused in words by check_writable
        return False


def refuse_existing(items: Iterable[Item], trace: Path | None = None) -> None:
    """Whether anything would be replaced.

    Raises:
        OutputExistsError: the first, and how many others.
    """
    there = [path for path in (*(item.output for item in items), *([trace] if trace else [])) if path.exists()]
    if there:
        others = f", and so do {len(there) - 1} others" if len(there) > 1 else ""
        raise OutputExistsError(
            f"{there[0]} exists{others}; pass --overwrite to replace it, --skip-existing to leave it, or choose "
            "another name"
        )


def _list_file(path: Path) -> list[str]:
    try:
        return listed(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ImageNotFoundError(f"the --list {path} cannot be read ({error}); name a text file of paths") from error


def _check_file(args: argparse.Namespace, count: int) -> None:
    if count > 1:
        raise SettingsError(f"{count} inputs need a folder as --output, {args.output} is a file's name")
    if args.name:
        raise SettingsError(f"--name is for outputs in a folder, --output {args.output} is a file's name; leave it out")
    if args.resume:
        raise SettingsError(f"--resume needs a folder as --output, {args.output} is a file's name; leave it out")
    if args.format and FORMATS.get(args.output.suffix.lower()) is not FORMATS[f".{args.format}"]:
        raise SettingsError(
            f"--format {args.format} contradicts --output {args.output}; leave it out, or name a folder"
        )


def _named(args: argparse.Namespace, inputs: Sequence[Input], steps: int) -> tuple[tuple[Item, ...], list[Failure]]:
    template = parse_template(args.name or DEFAULT)
    fixed = {
        "scale": int(args.scale) if float(args.scale).is_integer() else args.scale,
        "seed": args.seed,
        "steps": steps,
        "ext": args.format or "png",
    }
    items, failures = [], []
    for index, given in enumerate(inputs, 1):
        width = height = 0
        if template.needs_size:
            try:
                width, height = scaled(*picture_size(given.path), args.scale)
            except DossrError as error:
                failures.append(Failure(source=given.path, output=None, error=error))
                continue
        values = fixed | {"index": index, "width": width, "height": height}
        items.append(Item(source=given.path, output=args.output / template.path(given, values)))
    return tuple(items), failures


def _check_places(args: argparse.Namespace, items: Sequence[Item], *, folder: bool) -> None:
    """Suffixes with their settings, folders, and names; the trace's, too."""
    for output in {item.output.suffix: item.output for item in reversed(items)}.values():
        check_settings(output, args.quality, args.bit_depth)
    if folder and not args.output.exists():
        check_writable(args.output)
    for item in items:
        try:
            item.output.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputNotWritableError(
                f"cannot write {item.output}: {error.strerror}; choose another name"
            ) from error
    for output in {item.output.parent: item.output for item in items}.values():
        if output.parent.exists() or not folder:
            check_writable(output)
    if args.trace:
        if args.trace.resolve() in [item.output.resolve() for item in items]:
            raise SettingsError(f"two results would both be written to {args.trace}; give them different names")
        check_writable(args.trace)
        if args.trace.resolve() in [item.source.resolve() for item in items] and args.overwrite:
            raise SettingsError(f"--trace would replace the input {args.trace}; give it another name")
