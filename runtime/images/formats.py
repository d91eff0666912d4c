"""The formats that results are written in, and what each can hold. In: a path and what is to be written. Out: nothing,
or a named error, before any work is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import features

from engines.errors import OutputNotWritableError, SettingsError
from runtime.images.picture import check_depth
from runtime.images.vips import load_pyvips


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format."""

    name: str
    """Pillow's."""
    options: dict[str, Any] = field(default_factory=dict)
    """How it is saved; `quality` among them says that it has one."""
    alpha: bool = True
    deep: bool = False
    """Holds 16 bits a channel."""
    max_side: int | None = None

    def options_at(self, quality: int | None) -> dict[str, Any]:
        """`options` with that quality; None: the format's own."""
        return self.options | ({} if quality is None else {"quality": quality})


PNG = Format(name="PNG", options={"compress_level": 4}, deep=True)
TIFF = Format(name="TIFF", options={"compression": "tiff_deflate"}, deep=True)
JPEG = Format(name="JPEG", options={"quality": 95, "subsampling": 0}, alpha=False, max_side=65_500)
WEBP = Format(name="WEBP", options={"quality": 95, "method": 4}, max_side=16_383)
AVIF = Format(name="AVIF", options={"quality": 90}, max_side=32_768)

FORMATS: dict[str, Format] = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".webp": WEBP,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".avif": AVIF,
}
"""Suffix to format."""


def format_of(path: Path) -> Format:
    """The format that a suffix stands for.

    Raises:
        OutputNotWritableError: none, or this Pillow cannot write it.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise OutputNotWritableError(f"cannot write {path}: its suffix must be one of {', '.join(FORMATS)}")
    if found is AVIF and not features.check("avif"):
        raise OutputNotWritableError(f"cannot write {path}: this Pillow has no AVIF; install pillow>=11.3 or use .webp")
    return found


def result_depth(path: Path, asked: int | None, given: int) -> int:
    """Bits a channel that a file will have: the asked ones, or the picture's where the format holds them.

    Raises:
        OutputNotWritableError: see `format_of`.
    """
    return asked or (given if format_of(path).deep else 8)


def check_settings(path: Path, quality: int | None, bit_depth: int | None) -> None:
    """Whether a file of that name has such a quality and depth.

    Raises:
        SettingsError: out of range, or without a meaning for the format.
        OutputNotWritableError: see `format_of`.
    """
    form = format_of(path)
    if quality is not None:
        if type(quality) is not int or not 1 <= quality <= 100:
            raise SettingsError(f"quality must be a whole number in 1..100, not {quality!r}")
        if "quality" not in form.options:
            raise SettingsError(
                f"quality {quality} has no meaning for {path}: {form.name} loses nothing; leave it out, or write "
                ".jpg, .webp or .avif"
            )
    check_depth(bit_depth)
    if bit_depth == 16 and not form.deep:
        raise SettingsError(f"cannot write {path} with 16 bits: {form.name} holds 8; use .png or .tif, or 8 bits")


def check_output(
    path: Path,
    *,
    size: tuple[int, int],
    channels: int,
    given_depth: int = 8,
    quality: int | None = None,
    bit_depth: int | None = None,
) -> None:
    """Whether a result can be written to that file.

    Args:
        path, size, channels, quality, bit_depth: see `check_fits`.
        given_depth: of the picture.

    Raises:
        OutputNotWritableError, SettingsError: see `check_fits`.
        PackageMissingError: 16 bits in several channels, and pyvips is not installed.
    """
    check_fits(path, size=size, channels=channels, quality=quality, bit_depth=bit_depth)
    if channels > 1 and result_depth(path, bit_depth, given_depth) == 16:
        load_pyvips()


def check_fits(
    path: Path, *, size: tuple[int, int], channels: int, quality: int | None = None, bit_depth: int | None = None
) -> None:
    """Whether a file of that name holds such a picture.

    Args:
        path: its suffix says the format.
        size: (width, height).
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        quality: 1..100 for JPEG, WebP and AVIF.
        bit_depth: 8 or 16; None: the picture's where the format holds it.

    Raises:
        OutputNotWritableError: unknown suffix, a format without alpha for a picture that has it, or too large for it.
        SettingsError: see `check_settings`.
    """
    check_settings(path, quality, bit_depth)
    form = format_of(path)
    if channels in (2, 4) and not form.alpha:
        raise OutputNotWritableError(f"cannot write {path}: the picture has alpha and {form.name} holds none; use .png")
    if form.max_side is not None and max(size) > form.max_side:
        raise OutputNotWritableError(
            f"cannot write {path}: {form.name} holds sides up to {form.max_side}, the picture is "
            f"{size[0]}x{size[1]}; use .png"
        )
