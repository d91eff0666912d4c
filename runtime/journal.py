"""What a run has finished, so that the next one goes on there. In: outputs, and what they were made of. Out: a file of
one JSON line an output in the output folder.

A line is written when an output is whole under its temporary name, before it is renamed, with its size and time, which
a rename keeps: it counts when such a file stands under the name. A run can be killed at any moment: what is renamed is
known, and what is not is made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from engines.errors import OutputNotWritableError
from engines.files import temporary_name

NAME = ".dossr-journal.jsonl"


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """How a file is known again."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One output."""

    output: str
    """Relative to the folder."""
    made: Stamp
    source: str
    """The input's absolute path."""
    given: Stamp
    settings: str
    """A key of everything that changes the picture."""


def stamp(path: Path) -> Stamp | None:
    """The file's; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(size=found.st_size, mtime_ns=found.st_mtime_ns)


class Journal:
    """The journal of one output folder, locked against other runs. A context manager.

    Args:
        folder: which must exist.

    Raises:
        OutputNotWritableError: it cannot be written, or another run holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / NAME
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise OutputNotWritableError(
                f"cannot write {path}: {error.strerror}; choose a folder that is writable, or leave out --resume"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise OutputNotWritableError(
                f"another run holds {path}; wait for its end, or choose another output folder"
            ) from error
        self._file.seek(0)
        content = self._file.read()
        self._entries = {entry.output: entry for line in content.splitlines() if (entry := _entry(line)) is not None}
        if content and not content.endswith(b"\n"):
            self._file.write(b"\n")  # a run was killed within a line

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._file.close()

    def standing(self, output: Path) -> Entry | None:
        """What is known of the file that stands there; None where nothing is, or where it is another one since."""
        entry = self._entries.get(self._key(output))
        return entry if entry is not None and stamp(output) == entry.made else None

    def write(self, output: Path, temporary: Path, source: Path, given: Stamp, settings: str) -> None:
        """Notes an output that is whole and about to be renamed.

        Raises:
            OSError: the disk is full.
        """
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        made = stamp(temporary)
        assert made is not None
        entry = Entry(output=self._key(output), made=made, source=str(source.resolve()), given=given, settings=settings)
        self._file.write(json.dumps(asdict(entry)).encode() + b"\n")
        os.fsync(self._file.fileno())
        self._entries[entry.output] = entry

    def _key(self, output: Path) -> str:
        return output.relative_to(self._folder).as_posix()


@contextlib.contextmanager
def held(temporary: Path) -> Iterator[None]:
    """While the block runs, `remove_stale` of another process leaves this temporary file; as far as the file system has
    locks.
    """
    with temporary.open("rb") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def remove_stale(outputs: Iterable[Path]) -> None:
    """Removes temporary files of these outputs that a killed run left; not those that are `held`."""
    ours: dict[Path, set[tuple[str, str]]] = {}
    for output in outputs:
        ours.setdefault(output.parent, set()).add(temporary_name(output))
    for folder, names in ours.items():
        with contextlib.suppress(OSError):  # a folder that is not there holds none
            for path in folder.iterdir():
                start, _, end = path.name.rpartition(".part")
                start, dot, _random = start.rpartition(".")
                if (start + dot, f".part{end}") in names:
                    with contextlib.suppress(OSError), path.open("rb") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()


def _entry(line: bytes) -> Entry | None:
    try:
        fields = json.loads(line)
        return Entry(
            output=str(fields["output"]),
            made=_stamp(fields["made"]),
            source=str(fields["source"]),
            given=_stamp(fields["given"]),
            settings=str(fields["settings"]),
        )
    except (ValueError, TypeError, KeyError):
        return None


def _stamp(fields: Mapping[str, object]) -> Stamp:
    size, mtime_ns = fields["size"], fields["mtime_ns"]
    if not isinstance(size, int) or not isinstance(mtime_ns, int):
        raise TypeError("a stamp holds whole numbers")
    return Stamp(size=size, mtime_ns=mtime_ns)
