"""Which pictures are meant. In: files, folders, patterns and lists. Out: files, in natural order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engines.errors import ImageNotFoundError

SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".avif", ".bmp", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga"),
    )
)
"""Of the files that are taken from a folder."""
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class Input:
    """One file."""

    path: Path
    parent: Path = Path()
    """Its folder, relative to the one that was given; empty for files that were given themselves."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is in a folder."""

    pictures: tuple[Input, ...]
    passed_over: int
    """Files that are hidden, or have no picture's suffix."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The pictures' files, as `Upscaler.stream` takes them."""
        return tuple(one.path for one in self.pictures)


def natural_key(path: Path) -> tuple[tuple[tuple[int, int | str], ...], ...]:
    """Sorts a2 before a10, whatever their case."""
    return tuple(
        tuple((0, int(part)) if part.isdecimal() else (1, part) for part in _DIGITS.split(name.casefold()))
        for name in path.parts
    )


def pictures_in(folder: str | Path, *, recursive: bool = False, leave_out: Path | None = None) -> Found:
    """The pictures in a folder, by their suffixes (`SUFFIXES`), in natural order; links to folders are not followed.

    Args:
        folder: where to look.
        recursive: whether its folders are looked into, too.
        leave_out: a folder that is not looked into.

    Raises:
        ImageNotFoundError: there is no such folder, or it cannot be read.
    """
    folder = Path(folder)
    left_out = None if leave_out is None else leave_out.resolve()
    pictures, passed_over = [], 0

    def unreadable(error: OSError) -> None:
        raise ImageNotFoundError(
            f"{error.filename} cannot be read ({error.strerror}); name a folder that you may read"
        ) from error

    for where, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(where)
        inside = [name for name in folders if not name.startswith(".") and (here / name).resolve() != left_out]
        folders[:] = inside if recursive else []
        for name in files:
            if name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES:
                passed_over += 1
            else:
                pictures.append(Input(path=here / name, parent=here.relative_to(folder)))
    return Found(pictures=tuple(sorted(pictures, key=lambda one: natural_key(one.path))), passed_over=passed_over)


def expand(names: Iterable[str], *, recursive: bool = False, leave_out: Path | None = None) -> Found:
    """Files, folders and patterns (`*`, `?`, `[...]`, and `**` for folders of any depth), in the order given; a file
    that is not there is kept, for its own error.

    Raises:
        ImageNotFoundError: a pattern fits no file, or a folder cannot be read.
    """
    pictures: list[Input] = []
    passed_over = 0
    for name in names:
        path = Path(name)
        if os.path.isdir(name):  # noqa: PTH112, a name that is too long is none
            found = pictures_in(path, recursive=recursive, leave_out=leave_out)
            pictures += found.pictures
            passed_over += found.passed_over
        elif glob.has_magic(name) and not os.path.lexists(name):
            matches = [Path(match) for match in glob.glob(name, recursive=True)]  # noqa: PTH207, of an absolute path too
            files = sorted((match for match in matches if not match.is_dir()), key=natural_key)
            if not files:
                raise ImageNotFoundError(f"no file fits the pattern {name}; check the path, and quote the pattern")
            pictures += [Input(path=match) for match in files]
        else:
            pictures.append(Input(path=path))
    return Found(pictures=tuple(pictures), passed_over=passed_over)


def listed(text: str) -> list[str]:
    """The paths of a list: one a line, empty lines left out, or apart by NUL where there is any."""
    return [name for name in (text.split("\0") if "\0" in text else text.splitlines()) if name.strip()]
