"""TensorRT's timing cache on disk. In: a build's config, and the file of a GPU and version. Out: that file, in which
the times of every build come together.

A cache saves time and changes no result: whatever is wrong with the file, the build goes on without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from engines.errors import OutputNotWritableError
from engines.files import atomic_path
from engines.trt_library import trt

_log = logging.getLogger("dossr")


def load(config: trt.IBuilderConfig, path: Path) -> None:
    """Gives the config the file's times; none where there is no file, or one that does not fit."""
    cache = _created(config, _read(path))
    if cache is None or not config.set_timing_cache(cache, False):
        _log.warning("the timing cache %s does not fit this GPU or TensorRT; it is made anew", path)
        if (empty := _created(config, b"")) is not None:
            config.set_timing_cache(empty, False)


def save(config: trt.IBuilderConfig, path: Path) -> None:
    """Merges the config's times into the file, whole or not at all; other builds may do the same at once."""
    cache: trt.ITimingCache | None = config.get_timing_cache()
    if cache is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            theirs = _created(config, _read(path))
            if theirs is not None:
                cache.combine(theirs, False)
            with atomic_path(path) as temporary:
                temporary.write_bytes(memoryview(cache.serialize()))
    except (OSError, OutputNotWritableError) as error:
        _log.warning("the timing cache %s cannot be written (%s); the next build takes as long", path, error)


def _created(config: trt.IBuilderConfig, data: bytes) -> trt.ITimingCache | None:
    """A cache of these bytes; None where TensorRT refuses them."""
    return config.create_timing_cache(data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # not there yet, or not to be read
        return b""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with the file, among all processes."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
