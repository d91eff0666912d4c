"""JPEG files block by block: what Pillow makes of each, joined by restart markers, is bit for bit the picture that it
makes of the whole. In: blocks of rows. Out: a file's bytes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from runtime.images.blocks import Block, RowLayout
from runtime.images.planes import PIL_MODES

_UNIT = 8  # rows and columns that are coded together, as no channel is subsampled
_MOST_UNITS = 65_535  # between two restart markers
_START, _TABLES, _HUFFMAN, _SCAN, _INTERVAL, _RESTART, _END = 0xC0, 0xDB, 0xC4, 0xDA, 0xDD, 0xD0, 0xD9


@dataclass(frozen=True, kw_only=True)
class PackedScan:
    """A block as a JPEG file of its own."""

    segments: list[tuple[int, bytes]]
    """Marker and content; the last begins the scan."""
    scan: bytes
    index: int
    last: bool


class JpegBlocks:
    """See `BlockEncoder`."""

    def __init__(self, layout: RowLayout, metadata: Mapping[str, bytes], options: Mapping[str, Any]) -> None:
        self._across = -(-layout.width // _UNIT)
        units = max(1, min(layout.block_rows // _UNIT, _MOST_UNITS // self._across))
        self.rows = _UNIT * units
        self._layout, self._metadata, self._options = layout, metadata, options
        self._tables: list[tuple[int, bytes]] = []

    def pack(self, block: Block) -> PackedScan:
        """See `BlockEncoder.pack`."""
        layout, mode = self._layout, PIL_MODES[self._layout.channels]
        size = (layout.width, len(block.samples) // layout.stride)
        image = Image.frombuffer(mode, size, block.samples, "raw", mode, 0, 1)
        written = io.BytesIO()
        image.save(written, format="JPEG", **self._options, **({} if block.index else self._metadata))
        data = written.getvalue()
        segments = list(_segments(data))
        begin = 2 + sum(4 + len(content) for _, content in segments)
        return PackedScan(segments=segments, scan=data[begin:-2], index=block.index, last=block.last)

    def put(self, file: BinaryIO, packed: PackedScan) -> None:
        """See `BlockEncoder.put`.

        Raises:
            ValueError: this Pillow gives every block tables of its own.
        """
        tables = [segment for segment in packed.segments if segment[0] in (_TABLES, _HUFFMAN)]
        if packed.index == 0:
            self._tables = tables
            file.write(self._head(packed))
        elif tables != self._tables:
            raise ValueError("this Pillow's JPEG library fits its tables to every strip")
        file.write(packed.scan if packed.last else packed.scan + bytes((0xFF, _RESTART + packed.index % 8)))

    def end(self, file: BinaryIO) -> None:
        """See `BlockEncoder.end`."""
        file.write(bytes((0xFF, _END)))

    def complete(self, path: Path) -> None:
        """See `BlockEncoder.complete`."""

    def _head(self, packed: PackedScan) -> bytes:
        """The first block's, with the whole height, and the interval of the restart markers."""
        head, height = b"\xff\xd8", struct.pack(">H", self._layout.height)
        for marker, content in packed.segments:
            if marker == _SCAN and not packed.last:
                head += _segment(_INTERVAL, struct.pack(">H", self._across * (self.rows // _UNIT)))
            head += _segment(marker, content if marker != _START else content[:1] + height + content[3:])
        return head


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    at, marker = 2, 0
    while marker != _SCAN:
        _, marker, length = struct.unpack_from(">BBH", data, at)
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length
