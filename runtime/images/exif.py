"""EXIF: the orientation, and what of it goes on to the result. In: a PIL image. Out: a number, and EXIF bytes."""

from __future__ import annotations

import contextlib

from PIL import Image, ImageOps

from runtime.images.picture import DAMAGED

_ORIENTATION = 0x0112
_FOLDERS = (0x8769, 0x8825)  # Exif and GPS
_ABOUT_THE_PICTURE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)
"""Description, maker, model, software, date, artist, computer, copyright. In a TIFF file they stand among tags about
the file's own structure, which must not go on.
"""


def upright_with_exif(image: Image.Image) -> tuple[Image.Image, bytes]:
    """The loaded image turned as its EXIF says, and the EXIF without the orientation; a damaged EXIF is left out."""
    upright, exif = image, b""
    with contextlib.suppress(*DAMAGED):
        exif = exif_bytes(image)
        upright = ImageOps.exif_transpose(image)
    return upright, exif


def orientation_of(image: Image.Image) -> int:
    """1 to 8; 1 where there is none."""
    with contextlib.suppress(*DAMAGED):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def exif_bytes(image: Image.Image) -> bytes:
    """The EXIF without its orientation; empty where there is none, or a damaged one."""
    with contextlib.suppress(*DAMAGED):
        given = image.getexif()
        tags = _ABOUT_THE_PICTURE if hasattr(image, "tag_v2") else tuple(set(given) - {_ORIENTATION, *_FOLDERS})
        kept = _with_tags(given, tags)
        return kept.tobytes() if len(kept) else b""
    return b""


def exif_for_tiff(exif: bytes) -> Image.Exif | None:
    """Of EXIF bytes what can stand in a TIFF file's directory, little-endian; None where there is no such tag."""
    with contextlib.suppress(*DAMAGED):
        given = Image.Exif()
        given.load(exif)
        kept = _with_tags(given, _ABOUT_THE_PICTURE)
        return kept if kept.tobytes() and len(kept) else None
    return None


def _with_tags(given: Image.Exif, tags: tuple[int, ...]) -> Image.Exif:
    kept = Image.Exif()
    kept.endian = "<"
    for tag in sorted(tags):
        if tag in given:
            kept[tag] = given[tag]
    for tag in _FOLDERS:
        if folder := given.get_ifd(tag):
            kept[tag] = dict(folder)
    return kept
