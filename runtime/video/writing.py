"""A clip written frame by frame, its other streams as they are. In: frames and packets. Out: a container."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.errors import SettingsError
from runtime.kernels import Tensor
from runtime.video.codecs import CONTAINERS, VideoCodec, pixel_format
from runtime.video.colors import Colors, bits_of, frame_of
from runtime.video.pyav import load_pyav, named_video_errors
from runtime.video.reading import Clip

_FALLBACK_RATE = 25


class ClipWriter:
    """An opened output; `open_writer` makes it."""

    def __init__(self, container: Any, stream: Any, copies: dict[int, Any], colors: Colors, path: Path) -> None:
        self._container, self._stream, self._copies = container, stream, copies
        self._colors, self._path = colors, path
        self._durations: dict[int, int] = {}

    def copy(self, packet: Any) -> None:
        """A packet of audio or subtitles, of a stream that the container takes."""
        if (stream := self._copies.get(packet.stream.index)) is not None:
            packet.stream = stream
            with named_video_errors(self._path):
                self._container.mux(packet)

    def write(self, pixels: Tensor, given: Any) -> None:
        """Pixels of the result, with the time of the frame that they were made of."""
        with named_video_errors(self._path):
            frame = frame_of(pixels, self._colors, self._stream.pix_fmt)
            frame.pts, frame.time_base = given.pts, given.time_base
            self._durations[given.pts] = given.duration
            self._encode(frame)

    def finish(self) -> None:
        """Writes what the encoder still holds, and the container's end."""
        with named_video_errors(self._path):
            self._encode(None)
            self._container.close()

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._durations.pop(packet.pts, 0) or packet.duration
            self._container.mux(packet)


@contextlib.contextmanager
def open_writer(
    temporary: Path,
    path: Path,
    clip: Clip,
    first: Any,
    size: tuple[int, int],
    codec: VideoCodec,
    quality: int | None,
    colors: Colors,
    notices: list[str],
) -> Iterator[ClipWriter]:
    """Opens a container for a clip.

    Args:
        temporary: what is written.
        path: what it becomes, for error texts.
        clip: the input, for its timing and other streams.
        first: its first frame.
        size: (width, height) of the result.
        codec, quality: of the encoder.
        colors: of the input.
        notices: takes a sentence for what of the input is left out.

    Raises:
        SettingsError: a side is odd, and the pixel format takes none.
        OutputNotWritableError: the encoder or the container refuses, with FFmpeg's reason.
    """
    av = load_pyav()
    form = pixel_format(codec, first.format.name, bits_of(first))
    _check_even(size, form)
    with named_video_errors(path):
        container = av.open(str(temporary), "w", format=CONTAINERS[path.suffix.lower()])
    try:
        with named_video_errors(path):
            container.metadata.update(clip.container.metadata)
            stream = container.add_stream(
                codec.name, rate=clip.stream.average_rate or _FALLBACK_RATE, options=codec.options(quality)
            )
            stream.width, stream.height = size
            stream.pix_fmt = form
            stream.metadata.update(clip.stream.metadata)
            _carry(first, clip, stream, colors)
            copies = _copies(container, clip, notices)
            container.start_encoding()
        yield ClipWriter(container, stream, copies, colors, path)
    finally:
        with contextlib.suppress(Exception):  # after an error its end cannot be written either
            container.close()


def _check_even(size: tuple[int, int], form: str) -> None:
    plain = load_pyav().VideoFormat(form)
    if (size[0] % 2 and plain.chroma_width(2) == 1) or (size[1] % 2 and plain.chroma_height(2) == 1):
        raise SettingsError(
            f"the result would have {size[0]}x{size[1]} pixels, and {form} takes even sides; choose another --scale, "
            "like 4"
        )


def _carry(first: Any, clip: Clip, stream: Any, colors: Colors) -> None:
    """Timing, shape of pixels, colors and rotation of the input."""
    context = stream.codec_context
    context.time_base = first.time_base
    if clip.stream.sample_aspect_ratio:
        context.sample_aspect_ratio = clip.stream.sample_aspect_ratio
    context.colorspace, context.color_range = colors.matrix, colors.range
    context.color_primaries, context.color_trc = colors.primaries, colors.transfer
    matrix = first.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        stream.set_display_matrix(struct.unpack("9i", bytes(matrix)))


def _copies(container: Any, clip: Clip, notices: list[str]) -> dict[int, Any]:
    """Streams that are copied, by the input's index."""
    copies = {}
    for given in clip.container.streams:
        if given.type == "audio":
            copies[given.index] = container.add_stream_from_template(given)
        elif given.type == "subtitle":
            with contextlib.suppress(ValueError):
                copies[given.index] = container.add_stream_from_template(given)
        if given.index in copies:
            copies[given.index].metadata.update(given.metadata)
        elif given is not clip.stream:
            notices.append(f"{clip.where}: its stream {given.index} ({given.type}) is left out")
    return copies
