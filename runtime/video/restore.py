"""A clip through an Upscaler. In: a path and settings. Out: another clip, and what was done."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import ImageDecodeError, SettingsError
from engines.files import atomic_path, check_writable
from runtime.control import Control, chosen_control
from runtime.images import check_scale
from runtime.images.save import check_free
from runtime.journal import held, remove_stale
from runtime.tiles import AUTO
from runtime.upscaler import Upscaler
from runtime.video.codecs import VideoCodec, choose_codec
from runtime.video.colors import colors_of, pixels_of
from runtime.video.reading import Clip, open_clip
from runtime.video.writing import ClipWriter, open_writer

_log = logging.getLogger("dossr")

OnFrame = Callable[[int, int], None]
"""Called as (frames written, frames in all, 0 where the file does not say)."""


@dataclass(frozen=True, kw_only=True)
class VideoReport:
    """A restored clip."""

    frames: int
    width: int
    height: int
    codec: str
    """The encoder."""
    seconds: float
    """That the work took."""
    notices: tuple[str, ...] = ()
    """What of the input is not in the result, a sentence each."""


def restore_video(
    source: str | Path,
    output: str | Path,
    upscaler: Upscaler,
    *,
    batch: int = 1,
    scale: float = 4,
    steps: int | None = None,
    order: int | None = None,
    seed: int = 42,
    color_fix: str = "wavelet",
    codec: str | None = None,
    quality: int | None = None,
    overwrite: bool = False,
    tile: int | str | None = AUTO,
    tile_overlap: int | None = None,
    tile_batch: int | None = None,
    on_frame: OnFrame | None = None,
    control: Control | None = None,
) -> VideoReport:
    """Restores and enlarges every frame of a clip.

    All frames have the same noise, so that what stands still in the input stands still in the result. Times of frames,
    rotation, the shape of pixels and colors are kept, audio and subtitles copied as they are. The file is there when
    it is whole; an error, a stop or Ctrl-C leaves nothing, and temporary files of the output that a killed run left are
    removed.

    Args:
        source: a file that FFmpeg reads, with at least one video stream; the first is taken.
        output: ends in one of `CONTAINERS`, which says the container.
        upscaler: an open one.
        batch, scale, steps, order, seed, color_fix, tile, tile_overlap, tile_batch: see `Upscaler.stream`.
        codec: a name in `VIDEO_CODECS`; None: the first that the container takes (libx264; libvpx-vp9 for .webm).
        quality: 1..100, of the encoder; None: its default (CRF 18 for libx264).
        overwrite: replace a file that exists.
        on_frame: called after each frame.
        control: stops the work; its timeout is that of the frames that are restored together.

    Raises:
        PackageMissingError: PyAV is not installed.
        ImageNotFoundError, ImageDecodeError: no such file, no video in it, or a damaged frame, which is named.
        OutputExistsError: the file exists, and `overwrite` is False.
        OutputNotWritableError: the suffix, the place, or a codec (of audio, too) that the container does not take.
        SettingsError: a setting is outside its range, or gives odd sides; the output is the input.
        CancelledError, TimeLimitError: see `Control`.
        DossrError: see `Upscaler.stream`.
    """
    begin = time.perf_counter()
    source, output = Path(source), Path(output)
    check_scale(scale)
    chosen = check_clip(source, output, codec, quality)
    check_free(output, overwrite=overwrite)
    control = chosen_control(control, None, None)
    notices: list[str] = []
    with open_clip(source) as clip:
        items, first = _first_frame(clip)
        size = max(1, round(first.width * scale)), max(1, round(first.height * scale))
        if first.interlaced_frame:
            notices.append(f"{source}: its frames are interlaced, and restored as they are; deinterlace it first")
        colors = colors_of(first, size[1])
        under_way: deque[Any] = deque()
        remove_stale([output])
        with (
            atomic_path(output) as temporary,
            held(temporary),
            open_writer(temporary, output, clip, first, size, chosen, quality, colors, notices) as writer,
        ):
            frames = _frames(items, writer, under_way)
            pixels = (pixels_of(frame, colors) for frame in frames)
            results = upscaler.stream(
                pixels,
                batch=batch,
                scale=scale,
                steps=steps,
                order=order,
                seed=seed,
                color_fix=color_fix,
                tile=tile,
                tile_overlap=tile_overlap,
                tile_batch=tile_batch,
                control=control,
            )
            for count, result in enumerate(results, 1):
                writer.write(result.pixels, under_way.popleft())
                if on_frame is not None:
                    on_frame(count, clip.stream.frames)
            writer.finish()
            control.check()
        if clip.lost:
            notices.append(f"{source}: {clip.lost} frames at its end cannot be decoded, and are left out")
    for notice in notices:
        _log.warning("%s", notice)
    return VideoReport(
        frames=clip.frames,
        width=size[0],
        height=size[1],
        codec=chosen.name,
        seconds=time.perf_counter() - begin,
        notices=tuple(notices),
    )


def check_clip(source: Path, output: Path, codec: str | None, quality: int | None) -> VideoCodec:
    """Whether a clip can be written there, and by which encoder; arguments and errors as of `restore_video`."""
    check_writable(output)
    chosen = choose_codec(output, codec)
    chosen.options(quality)
    with contextlib.suppress(OSError):  # one of them is not there
        if output.samefile(source):
            raise SettingsError(f"the result of {source} would replace the input {output}; choose another name")
    return chosen


def _first_frame(clip: Clip) -> tuple[Iterator[Any], Any]:
    """The clip's items, and among them its first frame, by which the output is opened."""
    items, before = clip.items(), []
    for item in items:
        before.append(item)
        if hasattr(item, "planes"):
            return itertools.chain(before, items), item
    raise ImageDecodeError(f"{clip.where} has no frame that can be decoded; get a whole copy of it")


def _frames(items: Iterator[Any], writer: ClipWriter, under_way: deque[Any]) -> Iterator[Any]:
    """The frames; packets of other streams are written as they come."""
    for item in items:
        if hasattr(item, "planes"):
            under_way.append(item)
            yield item
        else:
            writer.copy(item)
