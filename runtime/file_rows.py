"""A picture's rows as a file. In: rows as they are made. Out: `Result.save`'s file, in the memory of a few strips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from engines.errors import OutputNotWritableError
from runtime.images import FinishedRows, Picture, StripWriter, open_strips, result_depth, result_size
from runtime.images.planes import at_depth
from runtime.kernels import Tensor


class FileRows:
    """A `runtime.rows.RowSink`. The file gets its name when the `with` block ends, or `close` is called, without an
    error; else nothing is left.

    Args:
        path: see `runtime.images.open_strips`.
        picture: the input: its alpha is resized.
        scale: of the result.
        make_folder: whether its folder is made where there is none.
        quality, overwrite, ready: see `runtime.images.open_strips`.
        bit_depth: of the file; None: that of the rows, where the format holds it.

    Raises:
        OutputError, SettingsError, MemoryBudgetError: while it is written, see `runtime.images.open_strips`.
    """

    def __init__(
        self,
        path: Path,
        picture: Picture,
        *,
        scale: float = 4,
        quality: int | None = None,
        bit_depth: int | None = None,
        overwrite: bool = False,
        make_folder: bool = False,
        ready: Callable[[Path], None] | None = None,
    ) -> None:
        self._path, self._picture = path, picture
        self.size = result_size(picture, scale)
        """(width, height) of the file."""
        self.bits = 0
        """A channel, of the file; 0 before the first row."""
        self._quality, self._bit_depth = quality, bit_depth
        self._overwrite, self._make_folder, self._ready = overwrite, make_folder, ready
        self._strips: AbstractContextManager[StripWriter] | None = None
        self._writer: StripWriter | None = None
        self._rows: FinishedRows | None = None

    def begin(self, shape: tuple[int, int, int], dtype: str, metadata: Mapping[str, bytes]) -> None:
        """See `runtime.rows.RowSink.begin`."""
        self.discard()
        height, width, _ = shape
        if self._make_folder:
            make_folder(self._path.parent)
        self._rows = FinishedRows(self._picture, (width, height), self.size)
        self.bits = result_depth(self._path, self._bit_depth, 16 if dtype == "uint16" else 8)
        self._strips = open_strips(
            self._path,
            width=self.size[0],
            height=self.size[1],
            channels=self._rows.channels,
            bit_depth=self.bits,
            metadata=metadata,
            quality=self._quality,
            overwrite=self._overwrite,
            ready=self._ready,
        )
        self._writer = self._strips.__enter__()

    def write(self, rows: Tensor) -> None:
        """See `runtime.rows.RowSink.write`."""
        assert self._writer is not None
        assert self._rows is not None
        for done in self._rows.push(rows):
            self._writer.write(at_depth(done, self.bits))

    def close(self) -> None:
        """Completes the file."""
        strips, self._strips = self._strips, None
        if strips is not None:
            strips.__exit__(None, None, None)

    def discard(self) -> None:
        """Leaves nothing of what was written."""
        strips, self._strips = self._strips, None
        if strips is not None:
            dropped = _DroppedError()
            strips.__exit__(type(dropped), dropped, None)

    def __enter__(self) -> FileRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def make_folder(folder: Path) -> None:
    """Makes a folder, and those around it.

    Raises:
        OutputNotWritableError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritableError(
            f"cannot make the folder {folder}: {error.strerror}; choose another place"
        ) from error


class _DroppedError(Exception):
    """Ends a file that is not to be."""
