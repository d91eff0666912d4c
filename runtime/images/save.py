"""Results as files. In: pixels, a path, metadata. Out: a file that is whole or not there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from engines.errors import OutputExistsError, OutputNotWritableError
from engines.files import atomic_path
from runtime.images.formats import JPEG, TIFF, check_output, format_of, result_depth
from runtime.images.planes import at_depth, bits_of, to_pil
from runtime.images.tiff_exif import add_exif
from runtime.images.vips import write_deep
from runtime.kernels import Tensor

_JPEG_SEGMENT = 65_533  # bytes of EXIF
_log = logging.getLogger("dossr")


def save_picture(
    pixels: Tensor,
    path: Path,
    *,
    metadata: Mapping[str, bytes] | None = None,
    quality: int | None = None,
    bit_depth: int | None = None,
    overwrite: bool = False,
    ready: Callable[[Path], None] | None = None,
) -> None:
    """Writes pixels with their profile and EXIF; the suffix says the format.

    Args:
        pixels: uint8 or uint16 [H, W, 1 to 4].
        path: of the file; its folder must exist.
        metadata: `icc_profile` and `exif`.
        quality, bit_depth: see `check_output`.
        overwrite: replace a file that exists.
        ready: called with the whole file before it gets its name; an OSError keeps it from getting it.

    Raises:
        OutputExistsError: the file exists, and `overwrite` is False.
        OutputNotWritableError, SettingsError, PackageMissingError: see `check_output`; or the place is not writable.
    """
    height, width, channels = pixels.shape
    given = bits_of(pixels)
    check_output(path, size=(width, height), channels=channels, given_depth=given, quality=quality, bit_depth=bit_depth)
    check_free(path, overwrite=overwrite)
    form = format_of(path)
    kept = metadata_that_fits(path, metadata or {})
    right = at_depth(pixels, result_depth(path, bit_depth, given))
    with named_write_errors(path), atomic_path(path) as temporary:
        if right.dtype == "uint16" and channels > 1:
            write_deep(right, temporary, form.name, kept)
        else:
            inside = {key: value for key, value in kept.items() if form is not TIFF or key != "exif"}
            to_pil(right).save(temporary, format=form.name, **form.options_at(quality), **inside)
        if form is TIFF and "exif" in kept:
            add_exif(temporary, kept["exif"])
        if ready is not None:
            ready(temporary)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Whether a file may be written there.

    Raises:
        OutputExistsError: it exists, and `overwrite` is False.
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; pass overwrite=True to replace it, or choose another name")


def metadata_that_fits(path: Path, metadata: Mapping[str, bytes]) -> dict[str, bytes]:
    """What of it the format holds, with a warning where some is left out."""
    kept = dict(metadata)
    if format_of(path) is JPEG and len(kept.get("exif", b"")) > _JPEG_SEGMENT:
        _log.warning(
            "%s: its EXIF has %d bytes, JPEG holds %d; it is left out", path, len(kept.pop("exif")), _JPEG_SEGMENT
        )
    return kept


@contextlib.contextmanager
def named_write_errors(path: Path) -> Iterator[None]:
    """Turns what encoders and the disk raise into a named error.

    Raises:
        OutputNotWritableError: it was one of those.
    """
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        raise OutputNotWritableError(f"cannot write {path}: {error}; choose another format or place") from error
