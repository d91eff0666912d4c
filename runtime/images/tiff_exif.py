"""EXIF in TIFF files, where libvips leaves it out, and Pillow's deflate encoder refuses many of its tags. In: a file
and EXIF bytes. Out: the file.
"""

from __future__ import annotations

import struct
from pathlib import Path

from runtime.images.exif import exif_for_tiff

CLASSIC_TIFF = 3_900_000_000
"""Bytes of pixels above which a file is a BigTIFF: offsets of others have 32 bits."""

_ENTRY = 12
_HEADER = 14  # "Exif\0\0", and the header of the TIFF file that EXIF is


def add_exif(path: Path, exif: bytes) -> None:
    """Appends the tags, and a new directory that names them beside the old ones. No pixel moves.

    Args:
        path: a little-endian TIFF file of one directory; a BigTIFF, of 3.9 GB or more, stays as it is.
        exif: as Pillow gives it.

    Raises:
        OSError: the file is no such TIFF.
    """
    if (tags := exif_for_tiff(exif)) is None:
        return
    with path.open("r+b") as file:
        magic, place = struct.unpack("<4sI", file.read(8))
        if magic == b"II+\0":
            return
        if magic != b"II*\0":
            raise OSError("EXIF is added to little-endian TIFF files only")
        file.seek(place)
        (count,) = struct.unpack("<H", file.read(2))
        entries = [file.read(_ENTRY) for _ in range(count)]
        following = file.read(4)
        end = file.seek(0, 2)
        file.write(bytes(end % 2))  # directories begin at even places
        block = tags.tobytes(offset=end + end % 2)[_HEADER:]
        (count,) = struct.unpack("<H", block[:2])
        given = {entry[:2] for entry in entries}
        added = [block[2 + _ENTRY * i :][:_ENTRY] for i in range(count)]
        entries += [entry for entry in added if entry[:2] not in given]
        entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
        file.write(block + bytes(len(block) % 2))
        place = file.tell()
        file.write(struct.pack("<H", len(entries)) + b"".join(entries) + following)
        file.seek(4)
        file.write(struct.pack("<I", place))
