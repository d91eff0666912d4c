"""Where the rows of a picture go as they are made. In: rows from top to bottom. Out: a tensor, or what a sink makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from runtime.kernels import Tensor


class RowSink(Protocol):
    """Takes one picture."""

    def begin(self, shape: tuple[int, int, int], dtype: str, metadata: Mapping[str, bytes]) -> None:
        """Before the first row; again where the picture is made again, and then rows before it do not count.

        Args:
            shape: [4h, 4w, 1 or 3], of the whole.
            dtype: uint8 or uint16.
            metadata: the input's `icc_profile` and `exif`, as of `runtime.Report`.
        """

    def write(self, rows: Tensor) -> None:
        """The next rows [n, 4w, 1 or 3], which are the caller's again afterwards."""


class PixelRows:
    """Keeps the rows in one tensor."""

    def __init__(self) -> None:
        self.pixels = Tensor((0, 0, 1), "uint8")
        self._filled = 0

    def begin(self, shape: tuple[int, int, int], dtype: str, _metadata: Mapping[str, bytes]) -> None:
        """See `RowSink.begin`."""
        self.pixels, self._filled = Tensor(shape, dtype), 0

    def write(self, rows: Tensor) -> None:
        """See `RowSink.write`."""
        end = self._filled + rows.nbytes
        memoryview(self.pixels).cast("B")[self._filled : end] = memoryview(rows).cast("B")
        self._filled = end
