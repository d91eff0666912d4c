"""sha256 of files, remembered between processes. In: a path. Out: its digest.

A gigabyte takes about a second to hash, so verified digests are kept in the user's cache folder (never in the bundle),
keyed by device, inode, size and change times. Compiled plans must not be looked up here: hash those each time.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from engines.errors import OutputNotWritableError
from engines.files import atomic_path, sha256_file

_SMALL = 1 << 20
"""Smaller files are hashed each time: that is quicker than a look-up is worth."""


def cache_folder() -> Path | None:
    """The user's cache folder: DOSSR_CACHE, else XDG_CACHE_HOME/dossr, else ~/.cache/dossr; None without a home."""
    if named := os.environ.get("DOSSR_CACHE"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dossr"
    except RuntimeError:  # a container's user without a home
        return None


def sha256(path: Path) -> str:
    """The file's sha256, from the cache where the file is unchanged since it was last hashed."""
    stat = path.stat()
    folder = cache_folder()
    if stat.st_size < _SMALL or folder is None:
        return sha256_file(path)
    key = f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
    cache = folder / "sha256.json"
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
        if isinstance(digest := known.get(key), str):
            return digest
    except (OSError, ValueError, AttributeError):
        known = {}
    digest = sha256_file(path)
    _remember(cache, {**dict(list(known.items())[-500:]), key: digest})
    return digest


def _remember(cache: Path, known: dict[str, str]) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(cache) as path:
            path.write_text(json.dumps(known), encoding="utf-8")
    except (OSError, OutputNotWritableError):
        return  # a read-only home costs time, not the picture
