"""Rows of pixels cut into blocks that are packed by several threads and written in order. In: rows, from top to bottom.
Out: an encoder's calls.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

from engines.ort import usable_cores

BLOCK_BYTES = 1 << 20
_MOST_THREADS = 4
_Packed = TypeVar("_Packed")


@dataclass(frozen=True, kw_only=True)
class RowLayout:
    """What the rows of a picture are."""

    width: int
    height: int
    channels: int
    bits: int
    """8 or 16 a sample."""

    @property
    def pixel(self) -> int:
        """Bytes a pixel."""
        return self.channels * self.bits // 8

    @property
    def stride(self) -> int:
        """Bytes a row."""
        return self.width * self.pixel

    @property
    def block_rows(self) -> int:
        """Rows of about `BLOCK_BYTES`."""
        return max(1, BLOCK_BYTES // self.stride)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some rows of a picture."""

    samples: bytes
    """In this machine's byte order."""
    above: bytes
    """The row before them; zeros before the first."""
    index: int
    """From 0."""
    last: bool


class BlockEncoder(Protocol[_Packed]):
    """A format, and one file of it."""

    rows: int
    """Of each block; the last may have fewer."""

    def pack(self, block: Block) -> _Packed:
        """The hard work, called in several threads."""

    def put(self, file: BinaryIO, packed: _Packed) -> None:
        """Writes a block, in order, to a file that was opened empty."""

    def end(self, file: BinaryIO) -> None:
        """Writes what stands behind the blocks."""

    def complete(self, path: Path) -> None:
        """Called last, when the file is closed."""


class BlockWriter(Generic[_Packed]):
    """Holds a few blocks at most. Not for two threads at once."""

    def __init__(
        self, layout: RowLayout, encoder: BlockEncoder[_Packed], file: BinaryIO, pool: ThreadPoolExecutor
    ) -> None:
        self._layout, self._encoder, self._file, self._pool = layout, encoder, file, pool
        self._waiting = bytearray()
        self._above = bytes(layout.stride)
        self._count = 0
        self._cut = 0
        self._packing: deque[Future[Any]] = deque()

    def write(self, samples: memoryview) -> None:
        """Takes whole rows, as bytes; no more than the layout has."""
        total = self._layout.stride * self._layout.height
        while len(samples):
            size = min(self._encoder.rows * self._layout.stride, total - self._cut)
            room = size - len(self._waiting)
            self._waiting += samples[:room]
            samples = samples[room:]
            if len(self._waiting) == size:
                self._cut += size
                self._submit(last=self._cut == total)

    def _submit(self, *, last: bool) -> None:
        block = Block(samples=bytes(self._waiting), above=self._above, index=self._count, last=last)
        self._above = block.samples[-self._layout.stride :]
        self._count += 1
        self._waiting.clear()
        self._packing.append(self._pool.submit(self._encoder.pack, block))
        while len(self._packing) > threads():
            self._put()

    def _put(self) -> None:
        self._encoder.put(self._file, self._packing.popleft().result())

    def finish(self) -> None:
        """Writes the rest."""
        while self._packing:
            self._put()
        self._encoder.end(self._file)
        self._file.flush()


def threads() -> int:
    """How many pack blocks."""
    return min(_MOST_THREADS, usable_cores())
