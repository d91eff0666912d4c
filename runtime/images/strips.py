"""Results written from top to bottom, without ever holding the whole. In: rows of pixels. Out: a file that is whole or
not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from engines.errors import OutputError, SettingsError
from engines.files import atomic_path
from runtime.images.blocks import BlockEncoder, BlockWriter, RowLayout, threads
from runtime.images.formats import JPEG, PNG, TIFF, check_fits, format_of
from runtime.images.jpeg_strips import JpegBlocks
from runtime.images.planes import PIL_MODES
from runtime.images.png_strips import PngBlocks
from runtime.images.save import check_free, metadata_that_fits, named_write_errors
from runtime.images.tiff_strips import TiffBlocks
from runtime.images.whole_strips import WholeBlocks

_SAMPLES = {8: "B", 16: "H"}
_Encoder = Callable[[RowLayout, Mapping[str, bytes], Mapping[str, Any]], BlockEncoder[Any]]
_ENCODERS: dict[str, _Encoder] = {PNG.name: PngBlocks, TIFF.name: TiffBlocks, JPEG.name: JpegBlocks}
"""Format to what writes it block by block."""


def streams(path: Path) -> bool:
    """Whether a file of that name is written in the memory of a few strips; otherwise `open_strips` holds the picture
    until it has all of it.

    Raises:
        OutputNotWritableError: no format has that suffix.
    """
    return format_of(path).name in _ENCODERS


@contextmanager
def open_strips(
    path: Path,
    *,
    width: int,
    height: int,
    channels: int,
    bit_depth: int,
    metadata: Mapping[str, bytes] | None = None,
    quality: int | None = None,
    overwrite: bool = False,
    ready: Callable[[Path], None] | None = None,
) -> Iterator[StripWriter]:
    """Opens a file for rows from top to bottom. At the end of the `with` block it gets its name; after an error, Ctrl-C
    included, nothing is left.

    Args:
        path: its suffix says the format; its folder must exist.
        width, height: of the whole picture.
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        bit_depth: 8 or 16, of the rows and of the file.
        metadata: `icc_profile` and `exif`.
        quality: 1..100, of JPEG, WebP and AVIF; None: the format's own.
        overwrite: replace a file that exists.
        ready: see `runtime.images.save_picture`.

    Raises:
        OutputExistsError: the file exists, and `overwrite` is False.
        OutputNotWritableError: see `check_fits`; or the place is not writable, or full.
        SettingsError: see `check_fits`; or a picture without pixels.
        MemoryBudgetError: the format does not stream, and there is no memory for the whole picture.
        OutputError: the block ended before all rows were written.
    """
    if min(width, height) < 1 or channels not in PIL_MODES:
        raise SettingsError(
            f"{path}: {width}x{height} pixels of {channels} channels, expected at least 1x1 of 1 to 4; open it with "
            "the size of the result"
        )
    check_fits(path, size=(width, height), channels=channels, quality=quality, bit_depth=bit_depth)
    check_free(path, overwrite=overwrite)
    form = format_of(path)
    layout = RowLayout(width=width, height=height, channels=channels, bits=bit_depth)
    kept, options = metadata_that_fits(path, metadata or {}), form.options_at(quality)
    encoder = _ENCODERS.get(form.name, partial(WholeBlocks, form))(layout, kept, options)
    with atomic_path(path) as temporary:
        with _opened(temporary) as file, ThreadPoolExecutor(threads(), "dossr-pack") as pool:
            writer = StripWriter(path, layout, BlockWriter(layout, encoder, file, pool))
            yield writer
            writer.finish()
        with named_write_errors(path):
            encoder.complete(temporary)
            if ready is not None:
                ready(temporary)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    file = path.open("wb")
    try:
        yield file
    finally:
        with suppress(OSError):  # on a full disk, again for what `StripWriter` has told of
            file.close()


class StripWriter:
    """Takes a picture's rows. Not for two threads at once; `open_strips` makes it."""

    def __init__(self, path: Path, layout: RowLayout, blocks: BlockWriter[Any]) -> None:
        self._path, self._layout, self._blocks = path, layout, blocks
        self._written = 0

    @property
    def rows_left(self) -> int:
        """How many are still to be written."""
        return self._layout.height - self._written

    def write(self, rows: Any) -> None:
        """The next rows.

        Args:
            rows: a buffer, uint8 or uint16 (as `bit_depth` says) [n, width, channels], C-contiguous; it is free again
                when this returns.

        Raises:
            OutputError: another shape or dtype, or more rows than are left.
            OutputNotWritableError: the disk is full, or the encoder refuses.
        """
        layout, view = self._layout, memoryview(rows)
        given = view.shape or ()
        wanted = _SAMPLES[layout.bits]
        if view.format != wanted or given[1:] != (layout.width, layout.channels) or not view.c_contiguous:
            raise OutputError(
                f"{self._path}: rows were given as {view.format}{list(given)}, expected C-contiguous uint{layout.bits} "
                f"({wanted}) [n, {layout.width}, {layout.channels}]; convert them first"
            )
        if given[0] > self.rows_left:
            raise OutputError(
                f"{self._path}: {self._written + given[0]} rows were given, the picture has {layout.height}; "
                "open it with its real height"
            )
        if given[0]:
            with named_write_errors(self._path):
                self._blocks.write(view.cast("B"))
            self._written += given[0]

    def finish(self) -> None:
        """Writes what waits; `open_strips` calls it.

        Raises:
            OutputError: rows are missing.
            OutputNotWritableError: the disk is full, or the encoder refuses.
        """
        if self.rows_left:
            raise OutputError(
                f"{self._path}: {self._written} rows were given, the picture has {self._layout.height}; nothing is kept"
            )
        with named_write_errors(self._path):
            self._blocks.finish()
