"""Files written whole or not at all, and their hashes. In: a path. Out: bytes on disk under their final name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engines.errors import OutputNotWritableError


def sha256_file(path: Path) -> str:
    """The file's sha256 as 64 hexadecimal digits, read in pieces of 4 MiB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(path: Path) -> None:
    """Whether a file or folder of that name can be made. Leaves nothing behind.

    Raises:
        OutputNotWritableError: the folder it goes to is missing or not writable, or the name is too long.
    """
    if not path.parent.is_dir():
        raise OutputNotWritableError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    try:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # refuses a name that is too long
        descriptor, probe = tempfile.mkstemp(dir=path.parent)
    except OSError as error:
        raise OutputNotWritableError(
            f"cannot write {path}: {error.strerror}; choose another name, in a folder that is writable"
        ) from error
    os.close(descriptor)
    Path(probe).unlink()


def temporary_name(path: Path) -> tuple[str, str]:
    """How the names of `path`'s temporary files begin and end; between is what `tempfile` draws, without a dot."""
    return f".{path.stem[:40]}.", f".part{path.suffix}"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in `path`'s folder that is renamed to `path` when the block ends without an error.

    On an error, Ctrl-C included, the temporary file is removed and `path` is left as it was.

    Raises:
        OutputNotWritableError: the folder does not exist or cannot be written.
    """
    try:
        prefix, suffix = temporary_name(path)
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=path.parent)
    except OSError as error:
        raise OutputNotWritableError(
            f"cannot write {path}: {error.strerror}; choose a folder that exists and is writable"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        try:
            temporary.replace(path)
        except OSError as error:
            raise OutputNotWritableError(f"cannot write {path}: {error.strerror}; choose another path") from error
    finally:
        temporary.unlink(missing_ok=True)
