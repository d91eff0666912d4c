"""A clip from its beginning to its end. In: a path. Out: its frames, and packets of its other streams, in order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.errors import ImageDecodeError, ImageNotFoundError
from runtime.images.picture import check_size
from runtime.video.pyav import load_pyav, reason_of

_SLACK = 1.0  # seconds: Matroska rounds, and counts streams that are not read


class Clip:
    """An opened video file; `open_clip` makes it.

    Its frames are not turned: a rotation is a note in the file, which goes on to the result.
    """

    def __init__(self, container: Any, stream: Any, where: str) -> None:
        self.container, self.stream, self.where = container, stream, where
        self.frames = 0
        """Decoded so far."""
        self.lost = 0
        """Frames that were in the file, and that the decoder gave up at the end."""
        self._size: tuple[int, int] | None = None
        self._time = 0.0
        self._next = 0
        """When the next frame begins, in ticks of the stream."""

    def items(self) -> Iterator[Any]:
        """PyAV's `VideoFrame`s of the clip, and `Packet`s of audio and subtitles.

        Raises:
            ImageDecodeError: a damaged frame, or the file ends early.
        """
        packets, shown, end = 0, 0, 0.0
        kept = [self.stream, *self.container.streams.audio, *self.container.streams.subtitles]
        with self._named():
            for packet in self.container.demux(kept):
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is not self.stream:
                    if packet.dts is not None:
                        yield packet
                    continue
                packets += packet.size > 0
                shown += packet.size > 0 and not packet.is_discard
                for frame in packet.decode():
                    self._check(frame)
                    self._count(frame)
                    yield frame
        self.lost = max(0, shown - self.frames)
        self._check_end(packets, end)

    def _count(self, frame: Any) -> None:
        if frame.pts is None:  # bare streams without a container
            frame.pts = self._next
        self._next = frame.pts + max(1, frame.duration)
        self._time = frame.time
        self.frames += 1

    def _check_end(self, packets: int, end: float) -> None:
        """Whether all was there that the file's head promises."""
        name, whole = self.container.format.name, (self.container.duration or 0) / 1e6
        if not self.frames:
            raise ImageDecodeError(f"{self.where} has no frame that can be decoded; get a whole copy of it")
        if ("mp4" in name and packets < self.stream.frames) or ("matroska" in name and end < whole - _SLACK):
            raise ImageDecodeError(
                f"{self.where} ends early: {self.frames} frames up to {end:.2f} s, of {self.stream.frames or 'more'} "
                f"up to {whole:.2f} s; get a whole copy"
            )

    def _check(self, frame: Any) -> None:
        """Whether it is whole, of a size that is read, and of that of the frames before it."""
        if frame.is_corrupt:
            raise self._damage("its data are incomplete")
        check_size(frame.width, frame.height, self.where)
        self._size = self._size or (frame.width, frame.height)
        if (frame.width, frame.height) != self._size:
            raise self._damage(f"its size changes to {frame.width}x{frame.height}")

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except load_pyav().error.FFmpegError as error:
            raise self._damage(reason_of(error)) from error

    def _damage(self, reason: str) -> ImageDecodeError:
        cut = f", or cut the clip behind its first {self.frames} frames" if self.frames else ""
        return ImageDecodeError(
            f"{self.where}: frame {self.frames + 1}, after {self._time:.2f} s, is damaged ({reason}); get a whole copy"
            f"{cut}"
        )


@contextlib.contextmanager
def open_clip(path: Path) -> Iterator[Clip]:
    """Opens a video file.

    Raises:
        ImageNotFoundError: there is no such file.
        ImageDecodeError: it is no video file, or has no video stream.
        PackageMissingError: PyAV is not installed.
    """
    av = load_pyav()
    if not path.is_file():
        raise ImageNotFoundError(f"there is no file {path}; check the path")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ImageDecodeError(
            f"{path} is no video file, or damaged ({reason_of(error)}); get a whole copy of it"
        ) from error
    with container:
        covers = av.stream.Disposition.attached_pic
        videos = [stream for stream in container.streams.video if not stream.disposition & covers]
        if not videos:
            raise ImageDecodeError(
                f"{path} has no video stream: it is damaged, ends early or is no clip; get a whole copy, or pass a clip"
            )
        if videos[0].codec_context is None:
            raise ImageDecodeError(
                f"{path}: its video is damaged, ends early or is of a codec that this FFmpeg lacks; get a whole copy, "
                "or convert it"
            )
        videos[0].thread_type = "AUTO"
        videos[0].codec_context.options = {"err_detect": "explode"}  # instead of painting over what is missing
        yield Clip(container, videos[0], str(path))
