"""Formats whose encoders want the whole picture (WebP, AVIF). In: blocks of rows. Out: a file, at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from engines.errors import MemoryBudgetError
from runtime.images.blocks import Block, RowLayout
from runtime.images.formats import Format
from runtime.images.planes import to_pil
from runtime.kernels import Tensor


class WholeBlocks:
    """See `BlockEncoder`.

    Raises:
        MemoryBudgetError: there is no memory for the picture.
    """

    def __init__(
        self, form: Format, layout: RowLayout, metadata: Mapping[str, bytes], options: Mapping[str, Any]
    ) -> None:
        self.rows = layout.block_rows
        self._metadata, self._options, self._form = metadata, options, form
        try:
            self._pixels = Tensor((layout.height, layout.width, layout.channels), f"uint{layout.bits}")
        except MemoryError as error:
            raise MemoryBudgetError(
                f"there is no memory for {layout.width}x{layout.height} pixels, which {form.name} is written from as a "
                "whole; write .png, .tif or .jpg, which take a few rows at a time"
            ) from error
        self._there = memoryview(self._pixels).cast("B")
        self._filled = 0

    def pack(self, block: Block) -> bytes:
        """See `BlockEncoder.pack`."""
        return block.samples

    def put(self, _file: BinaryIO, packed: bytes) -> None:
        """See `BlockEncoder.put`."""
        self._there[self._filled : self._filled + len(packed)] = packed
        self._filled += len(packed)

    def end(self, _file: BinaryIO) -> None:
        """See `BlockEncoder.end`."""

    def complete(self, path: Path) -> None:
        """See `BlockEncoder.complete`."""
        to_pil(self._pixels).save(path, format=self._form.name, **self._options, **self._metadata)
