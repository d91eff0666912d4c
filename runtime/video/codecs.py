"""The encoders of clips, and how many bits and which layout of colors each takes. In: a path and a frame's format. Out:
an encoder and a pixel format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from engines.errors import OutputNotWritableError, SettingsError
from runtime.video.pyav import load_pyav

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Suffix to FFmpeg's name of what is written."""
VIDEO_SUFFIXES = (*CONTAINERS, ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp")
"""Of what is taken for a clip."""


@dataclass(frozen=True, kw_only=True)
class VideoCodec:
    """An encoder."""

    name: str
    """FFmpeg's, and that of `--codec`."""
    worst: int | None = None
    """The quantizer of quality 1; that of quality 100 is `best`. None: it loses nothing."""
    best: int = 0
    default: int = 0
    """The quantizer where no quality is asked for."""
    option: str = "crf"
    others: tuple[tuple[str, str], ...] = ()
    """Options besides, where it has a quality."""

    def options(self, quality: int | None) -> dict[str, str]:
        """For FFmpeg.

        Raises:
            SettingsError: a quality out of range, or where nothing is lost.
        """
        if quality is None:
            return {} if self.worst is None else {self.option: str(self.default), **dict(self.others)}
        if type(quality) is not int or not 1 <= quality <= 100:
            raise SettingsError(f"quality must be a whole number in 1..100, not {quality!r}")
        if self.worst is None:
            raise SettingsError(f"quality {quality} has no meaning for {self.name}, which loses nothing; leave it out")
        number = round(self.worst + (self.best - self.worst) * (quality - 1) / 99)
        return {self.option: str(number), **dict(self.others)}


VIDEO_CODECS: dict[str, VideoCodec] = {
    codec.name: codec
    for codec in (
        VideoCodec(name="libx264", worst=51, default=18),
        VideoCodec(name="libx265", worst=51, default=20, others=(("x265-params", "log-level=none"),)),
        VideoCodec(name="libvpx-vp9", worst=63, default=24, others=(("b", "0"),)),
        VideoCodec(name="ffv1"),
        VideoCodec(name="mpeg4", worst=31, best=1, default=2, option="qmax", others=(("qmin", "1"),)),
    )
}
"""In the order in which they are taken where none is asked for."""


def is_video(path: Path) -> bool:
    """Whether a file of that name is a clip."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def choose_codec(path: Path, asked: str | None) -> VideoCodec:
    """The asked encoder, or the first that is here and that the container takes.

    Raises:
        SettingsError: no such encoder in the table.
        OutputNotWritableError: it is a folder's name, the suffix is no container's, this FFmpeg lacks the encoder, or
            the container refuses.
    """
    if not path.suffix or path.is_dir():
        raise OutputNotWritableError(
            f"cannot write {path}: a clip's output is a file's name, not a folder's; name one like {path}/clip.mp4"
        )
    if path.suffix.lower() not in CONTAINERS:
        raise OutputNotWritableError(f"cannot write {path}: a clip's suffix must be one of {', '.join(CONTAINERS)}")
    if asked is not None and asked not in VIDEO_CODECS:
        raise SettingsError(f"codec must be one of {', '.join(VIDEO_CODECS)}, not {asked!r}")
    taken = _taken_by(path)
    here = [codec for codec in VIDEO_CODECS.values() if _canonical(codec.name) in taken]
    if asked is None and here:
        return here[0]
    if asked is not None and VIDEO_CODECS[asked] in here:
        return VIDEO_CODECS[asked]
    names = ", ".join(codec.name for codec in here) or "none"
    raise OutputNotWritableError(
        f"cannot write {path} with {asked or 'any encoder'}: {path.suffix} takes, of what this PyAV has, {names}; "
        "choose one of those, or .mkv"
    )


def _canonical(name: str) -> str | None:
    """The format that an encoder writes; None where this FFmpeg lacks it."""
    av = load_pyav()
    try:
        return str(av.codec.Codec(name, "w").canonical_name)
    except ValueError:
        return None


def _taken_by(path: Path) -> set[str]:
    with load_pyav().open(BytesIO(), "w", format=CONTAINERS[path.suffix.lower()]) as container:
        return set(container.supported_codecs)


def pixel_format(codec: VideoCodec, given: str, bits: int) -> str:
    """The frame's own format where the encoder takes it, else a common one of its depth.

    Args:
        codec: the encoder.
        given: FFmpeg's name of the clip's format.
        bits: of its samples.
    """
    offered: Sequence[Any] = load_pyav().codec.Codec(codec.name, "w").video_formats or ()
    names = [offer.name for offer in offered]
    wanted = [given.replace("yuvj", "yuv"), *(["yuv420p10le"] if bits > 8 else []), "yuv420p"]
    return next((name for name in wanted if name in names), names[0])
