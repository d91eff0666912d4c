"""Where a bundle grows. In: its output path. Out: a folder beside it that keeps finished graphs and becomes the bundle.

    .NAME.resume/lock              held by the build that writes here
    .NAME.resume/bundle/           onnx/<graph>/ of each finished graph; renamed to NAME when the last is there
    .NAME.resume/<graph>.json      the graph's entry, its files' sha256 and the key of the build that made them
    .NAME.resume/part/             the graph in work
    .NAME.resume/old/              the bundle that is being replaced, for a moment

A graph is finished when its record stands; records and folders are renamed into place, so that a build may be killed at
any instruction. What remains of it is used again by a build of the same key, file by file after its sha256.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.bundle import FileRecord, GraphEntry, Manifest
from engines.errors import OutputNotWritableError
from engines.files import atomic_path, sha256_file
from engines.graphs import GraphSpec
from export.errors import OutputBusyError
from export.output import check_out

_BUNDLE, _PART, _OLD, _LOCK = "bundle", "part", "old", "lock"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A graph that was exported and verified, and its files by their paths in the bundle."""

    entry: GraphEntry
    files: Mapping[str, FileRecord]


class Workspace:
    """The folder, locked. Made by `workspace`."""

    def __init__(self, out: Path, folder: Path) -> None:
        self._out = out
        self.folder = folder
        self._bundle = folder / _BUNDLE
        self.finished: dict[str, Finished] = {}

    @property
    def part(self) -> Path:
        """Where the graph in work is written; to be made by who writes."""
        return self.folder / _PART

    @property
    def resumable(self) -> bool:
        """Whether finished graphs wait here for the rest of the bundle."""
        return bool(self.finished) and self._bundle.is_dir()

    def reuse(self, key: Mapping[str, Any], specs: Mapping[str, GraphSpec]) -> int:
        """Takes over the finished graphs of the same key and removes everything else; how many others there were."""
        records = len(list(self.folder.glob("*.json")))
        for name, spec in specs.items():
            if (kept := self._kept(name, spec, key)) is not None:
                self.finished[name] = kept
        names = {_LOCK, _BUNDLE, *(f"{name}.json" for name in self.finished)}
        _remove(path for path in self.folder.iterdir() if path.name not in names)
        onnx = self._bundle / "onnx"
        if onnx.is_dir():
            _remove(path for path in onnx.iterdir() if path.name not in self.finished)
        if self._bundle.is_dir():
            _remove(path for path in self._bundle.iterdir() if path.name != "onnx")
        return records - len(self.finished)

    def finish(self, entry: GraphEntry, key: Mapping[str, Any]) -> None:
        """Renames `part` into place and notes the graph as finished; `entry` names its files as they will be."""
        target = self._bundle / "onnx" / entry.spec.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        self.part.rename(target)
        done = Finished(entry=entry, files=self._records(target))
        record = {"key": dict(key), "spec": _plain(entry.spec), "entry": _plain(entry), "files": _plain(done)["files"]}
        with atomic_path(self._record(entry.spec.name)) as path:
            path.write_text(json.dumps(record, indent=1), encoding="utf-8")
        self.finished[entry.spec.name] = done

    def complete(self, manifest: Manifest) -> None:
        """Writes the manifest and puts the bundle in its place; what stood there goes.

        Raises:
            OutputExistsError: something that is not a bundle came there meanwhile.
            OutputNotWritableError: it cannot be renamed.
        """
        check_out(self._out)
        manifest.write(self._bundle)
        old = self.folder / _OLD
        try:
            if self._out.exists():
                self._out.rename(old)
            try:
                self._bundle.rename(self._out)
            except OSError:
                if old.exists():
                    old.rename(self._out)
                raise
        except OSError as error:
            raise OutputNotWritableError(f"cannot write {self._out}: {error.strerror}; choose another --out") from error
        self.finished.clear()

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _records(self, folder: Path) -> dict[str, FileRecord]:
        return {
            path.relative_to(self._bundle).as_posix(): FileRecord(sha256=sha256_file(path), size=path.stat().st_size)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def _kept(self, name: str, spec: GraphSpec, key: Mapping[str, Any]) -> Finished | None:
        """The finished graph, if its record is of this key and every file is as it was written."""
        try:
            record = json.loads(self._record(name).read_text(encoding="utf-8"))
            if record["key"] != json.loads(json.dumps(key)) or record["spec"] != json.loads(json.dumps(_plain(spec))):
                return None
            files = {path: FileRecord(**fields) for path, fields in record["files"].items()}
            entry = GraphEntry(
                spec=spec,
                file=record["entry"]["file"],
                lowered=record["entry"]["lowered"],
                verification=record["entry"]["verification"],
            )
            same = self._records(self._bundle / "onnx" / name) == files
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Finished(entry=entry, files=files) if same and entry.file in files else None


@contextlib.contextmanager
def workspace(out: Path, *, resume: bool = True) -> Iterator[Workspace]:
    """The workspace of an output. When the block ends before the bundle is complete, finished graphs stay and the error
    is told how to go on; without any, nothing stays.

    Raises:
        OutputBusyError: another build works on the same output.
        OutputNotWritableError: the folder cannot be made.
    """
    out = out.absolute()
    folder = out.parent / f".{out.name[:200]}.resume"
    parents = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder, out)
    except OSError as error:
        raise OutputNotWritableError(
            f"cannot write {out}: {error.strerror}; choose an --out in a folder that is writable"
        ) from error
    space = Workspace(out, folder)
    try:
        if (folder / _OLD).exists() and not out.exists():
            (folder / _OLD).rename(out)  # killed between the two renames
        if not resume:
            _remove(path for path in folder.iterdir() if path.name != _LOCK)
        yield space
    except BaseException as error:
        if space.resumable:
            error.add_note(
                f"run the same command again to go on from {len(space.finished)} finished graphs, kept in {folder}"
            )
        raise
    finally:
        with contextlib.suppress(OSError):
            if space.resumable:
                shutil.rmtree(space.part, ignore_errors=True)
            else:
                _remove(path for path in folder.iterdir() if path.name != _LOCK)
                (folder / _LOCK).unlink()  # last, so that nobody else works in the folder while it is cleared
                folder.rmdir()
        os.close(lock)
        for parent in parents:
            with contextlib.suppress(OSError):
                parent.rmdir()  # only what was made here, and only where it is empty


def _locked(folder: Path, out: Path) -> int:
    """Makes the folder and locks it; the kernel lets go of the lock when the process ends, however it ends."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # another build just finished and took its folder away
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / _LOCK).stat().st_ino == os.fstat(lock).st_ino:
                os.ftruncate(lock, 0)
                os.write(lock, f"{os.getpid()}\n".encode())
                return lock
        except BlockingIOError as error:
            owner = (folder / _LOCK).read_text(encoding="ascii", errors="replace").strip() if folder.exists() else ""
            os.close(lock)
            raise OutputBusyError(
                f"{out} is being written by another export (process {owner or 'unknown'}, lock {folder / _LOCK}); wait "
                "for it to end, or give another --out"
            ) from error
        except FileNotFoundError:
            pass
        os.close(lock)


def _remove(paths: Iterator[Path]) -> None:
    for path in list(paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _plain(record: Any) -> dict[str, Any]:
    return dataclasses.asdict(record)
