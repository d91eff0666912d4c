"""TIFF files block by block, a block a strip: deflated differences. In: blocks of rows. Out: a file's bytes."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from runtime.images.blocks import Block, RowLayout
from runtime.images.planes import in_order
from runtime.images.row_filters import tiff_rows
from runtime.images.tiff_exif import CLASSIC_TIFF, add_exif

_LEVEL = 4
_SHORT, _LONG, _UNDEFINED, _LONG8 = 3, 4, 7, 16
_FORMS = {_SHORT: "H", _LONG: "I", _UNDEFINED: "B", _LONG8: "Q"}
_DEFLATE, _PREDICTOR = 8, 2
_GREY, _RGB = 1, 2
_UNASSOCIATED_ALPHA = 2
_log = logging.getLogger("dossr")

_Tag = tuple[int, int, Sequence[int]]
"""Number, type, values."""


class TiffBlocks:
    """See `BlockEncoder`."""

    def __init__(self, layout: RowLayout, metadata: Mapping[str, bytes], _options: Mapping[str, Any]) -> None:
        self.rows = layout.block_rows
        self._layout, self._metadata = layout, metadata
        self._big = layout.stride * layout.height > CLASSIC_TIFF
        self._offsets: list[int] = []
        self._sizes: list[int] = []

    def pack(self, block: Block) -> bytes:
        """See `BlockEncoder.pack`."""
        layout, samples = self._layout, in_order(block.samples, self._layout.bits, "little")
        return zlib.compress(tiff_rows(samples, layout.stride, layout.channels, layout.bits), _LEVEL)

    def put(self, file: BinaryIO, packed: bytes) -> None:
        """See `BlockEncoder.put`."""
        if not self._offsets:
            file.write(self._head(0))
        self._offsets.append(file.tell())
        self._sizes.append(len(packed))
        file.write(packed)

    def end(self, file: BinaryIO) -> None:
        """See `BlockEncoder.end`."""
        place = _even(file)
        tags = self._tags()
        room, count_form, entry_form, offset_form = (8, "<Q", "<HHQ", "<Q") if self._big else (4, "<H", "<HHI", "<I")
        after = place + struct.calcsize(count_form) + len(tags) * (struct.calcsize(entry_form) + room) + room
        directory, values = struct.pack(count_form, len(tags)), b""  # values too long for their entry stand behind it
        for number, kind, given in tags:
            data = struct.pack(f"<{len(given)}{_FORMS[kind]}", *given)
            directory += struct.pack(entry_form, number, kind, len(given))
            if len(data) <= room:
                directory += data.ljust(room, b"\0")
            else:
                directory += struct.pack(offset_form, after + len(values))
                values += data + bytes(len(data) % 2)
        file.write(directory + bytes(room) + values)
        file.seek(0)
        file.write(self._head(place))

    def complete(self, path: Path) -> None:
        """See `BlockEncoder.complete`."""
        if "exif" not in self._metadata:
            return
        if self._big:
            _log.warning("the EXIF is left out: the picture needs a BigTIFF, which is written without")
        else:
            add_exif(path, self._metadata["exif"])

    def _head(self, directory: int) -> bytes:
        return (
            struct.pack("<2sHHHQ", b"II", 43, 8, 0, directory)
            if self._big
            else struct.pack("<2sHI", b"II", 42, directory)
        )

    def _tags(self) -> list[_Tag]:
        layout, place = self._layout, _LONG8 if self._big else _LONG
        tags: list[_Tag] = [
            (256, _LONG, [layout.width]),
            (257, _LONG, [layout.height]),
            (258, _SHORT, [layout.bits] * layout.channels),
            (259, _SHORT, [_DEFLATE]),
            (262, _SHORT, [_GREY if layout.channels < 3 else _RGB]),
            (273, place, self._offsets),
            (277, _SHORT, [layout.channels]),
            (278, _LONG, [self.rows]),
            (279, place, self._sizes),
            (284, _SHORT, [1]),  # pixel by pixel
            (317, _SHORT, [_PREDICTOR]),
        ]
        if layout.channels in (2, 4):
            tags.append((338, _SHORT, [_UNASSOCIATED_ALPHA]))
        if "icc_profile" in self._metadata:
            tags.append((34675, _UNDEFINED, self._metadata["icc_profile"]))
        return tags


def _even(file: BinaryIO) -> int:
    """The place that is written next, at an even address, as directories want it."""
    file.write(bytes(file.tell() % 2))
    return file.tell()
