"""PyAV, imported when the first clip is opened. In: nothing. Out: the package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.errors import OutputNotWritableError, PackageMissingError

_OLDEST = 18
INSTALL = "pip install 'av>=18'"
"""The command that brings PyAV and FFmpeg's libraries."""


def load_pyav() -> Any:
    """The package, with FFmpeg's own messages off: damage is told in our words.

    Raises:
        PackageMissingError: PyAV is not installed, or too old.
    """
    try:
        import av
        import av.error
        import av.logging
    except (ImportError, OSError) as error:
        raise PackageMissingError(f"video needs PyAV, which does not import ({error}); {INSTALL}") from error
    if int(av.__version__.split(".")[0]) < _OLDEST:
        raise PackageMissingError(f"video needs PyAV {_OLDEST} or newer, this is {av.__version__}; {INSTALL}")
    av.logging.set_level(None)
    return av


@contextlib.contextmanager
def named_video_errors(path: Path) -> Iterator[None]:
    """Turns what FFmpeg's encoders and containers refuse into a named error.

    Raises:
        OutputNotWritableError: it was one of those.
    """
    try:
        yield
    except (load_pyav().error.FFmpegError, ValueError, OSError) as error:
        raise OutputNotWritableError(
            f"cannot write {path}: {reason_of(error)}; choose another codec, or .mkv, which takes most"
        ) from error


def reason_of(error: Exception) -> str:
    """FFmpeg's words, without its number and path."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
