"""PNG files block by block: every block is deflated by itself, and all of them are one zlib stream. In: blocks of rows.
Out: a file's bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from runtime.images.blocks import Block, RowLayout
from runtime.images.planes import in_order
from runtime.images.row_filters import png_rows

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLORS = {1: 0, 2: 4, 3: 2, 4: 6}
_STREAM = b"\x78\x5e"  # of zlib: 32 KiB of window
_WINDOW = 15


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """A block on its way into the file."""

    filtered: bytes
    deflated: bytes
    index: int


class PngBlocks:
    """See `BlockEncoder`."""

    def __init__(self, layout: RowLayout, metadata: Mapping[str, bytes], options: Mapping[str, Any]) -> None:
        self.rows = layout.block_rows
        self._layout, self._metadata, self._level = layout, metadata, options["compress_level"]
        self._checksum = zlib.adler32(b"")

    def pack(self, block: Block) -> PackedRows:
        """See `BlockEncoder.pack`."""
        samples, above = (in_order(part, self._layout.bits, "big") for part in (block.samples, block.above))
        filtered = png_rows(samples, above, self._layout.pixel)
        stream = zlib.compressobj(self._level, zlib.DEFLATED, -_WINDOW, zlib.DEF_MEM_LEVEL, zlib.Z_FILTERED)
        deflated = stream.compress(filtered) + stream.flush(zlib.Z_FINISH if block.last else zlib.Z_FULL_FLUSH)
        return PackedRows(filtered=filtered, deflated=deflated, index=block.index)

    def put(self, file: BinaryIO, packed: PackedRows) -> None:
        """See `BlockEncoder.put`."""
        self._checksum = zlib.adler32(packed.filtered, self._checksum)
        if packed.index == 0:
            file.write(self._head())
        file.write(_chunk(b"IDAT", (b"" if packed.index else _STREAM) + packed.deflated))

    def end(self, file: BinaryIO) -> None:
        """See `BlockEncoder.end`."""
        file.write(_chunk(b"IDAT", struct.pack(">I", self._checksum)) + _chunk(b"IEND", b""))

    def complete(self, path: Path) -> None:
        """See `BlockEncoder.complete`."""

    def _head(self) -> bytes:
        layout = self._layout
        sizes = struct.pack(">IIBBBBB", layout.width, layout.height, layout.bits, _COLORS[layout.channels], 0, 0, 0)
        head = _SIGNATURE + _chunk(b"IHDR", sizes)
        if "icc_profile" in self._metadata:
            head += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(self._metadata["icc_profile"]))
        if "exif" in self._metadata:
            head += _chunk(b"eXIf", self._metadata["exif"].removeprefix(b"Exif\0\0"))
        return head


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
