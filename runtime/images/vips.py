"""16-bit color through pyvips, an optional package that is imported at the first such picture. In: the bytes of a PNG
or TIFF file, or pixels. Out: pixels, or a file.
"""

from __future__ import annotations

import logging
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import ImageDecodeError, PackageMissingError
from runtime.images.picture import check_size
from runtime.images.tiff_exif import CLASSIC_TIFF
from runtime.kernels import Tensor

INSTALL = "pip install 'pyvips[binary]'"
"""The command that brings pyvips and libvips."""

_THREADS = 2
_PNG_HEADER = 8 + 25  # the signature and IHDR
_LOADERS = {"PNG": "pngload_buffer", "TIFF": "tiffload_buffer"}
_SCALES = {"uchar": 257.0, "ushort": 1.0, "float": 65535.0, "double": 65535.0}
_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    2: lambda image: image.fliphor(),
    3: lambda image: image.rot180(),
    4: lambda image: image.flipver(),
    5: lambda image: image.rot90().fliphor(),
    6: lambda image: image.rot90(),
    7: lambda image: image.rot90().flipver(),
    8: lambda image: image.rot270(),
}
"""EXIF orientation to what sets the picture upright."""


@dataclass(frozen=True, kw_only=True)
class DeepPixels:
    """A decoded file of 16 bits."""

    pixels: memoryview
    """uint16 [h, w, 1 to 4], upright."""
    profile: bytes | None
    """ICC, where the colors were not converted."""
    pages: int


def load_pyvips() -> Any:
    """The package, with few threads and no cache of operations; settings of a program that uses it itself are kept.

    Raises:
        PackageMissingError: pyvips or libvips is not installed.
    """
    ours = "pyvips" not in sys.modules
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise PackageMissingError(f"16-bit color needs pyvips, which does not import ({error}); {INSTALL}") from error
    if ours:
        logging.getLogger("pyvips").setLevel(logging.CRITICAL)  # damage is told in our own words
        pyvips.cache_set_max(0)
        if hasattr(pyvips, "concurrency_set"):
            pyvips.concurrency_set(_THREADS)
    return pyvips


def has_pyvips() -> bool:
    """Whether 16-bit color can be read and written."""
    try:
        load_pyvips()
    except PackageMissingError:
        return False
    return True


def read_deep(data: bytes, kind: str, where: str, *, orientation: int | None = None) -> DeepPixels:
    """Decodes a PNG or TIFF file at 16 bits: grey or RGB, with or without alpha.

    CMYK and other colors become sRGB, 8-bit samples are widened, floating-point ones in [0, 1] scaled. (libvips itself
    undoes premultiplied alpha.)

    Args:
        data: of the whole file.
        kind: "PNG" or "TIFF".
        where: the file's name, for error texts.
        orientation: as in EXIF, 1 to 8; None: what libvips reads in the file.

    Raises:
        ImageTooLargeError, ImageDecodeError: damaged, truncated, or samples that are none of these.
        PackageMissingError: pyvips is not installed.
    """
    pyvips = load_pyvips()
    try:
        opened = getattr(pyvips.Image, _LOADERS[kind])(data, fail_on="error")
        check_size(opened.width, opened.height, where)
        image = opened.copy_memory()
        profile = _field(image, "icc-profile-data", None)
        if image.interpretation in ("cmyk", "lab", "labs", "xyz", "yxy"):
            image = _to_rgb(image, profile)
            profile = None
        if image.bands > 4:
            image = image[0:4]  # samples without a meaning stand behind the colors
        if image.format != "ushort":
            image = _scaled(image, where)
        image = _UPRIGHT.get(orientation or _field(opened, "orientation", 1), lambda same: same)(image)
        samples = memoryview(image.write_to_memory())
    except pyvips.Error as error:
        reason = " ".join(str(error).split()) or "its data end early"
        raise ImageDecodeError(f"{where} is damaged or truncated ({reason}); get a whole copy of it") from error
    return DeepPixels(
        pixels=samples.cast("B").cast("H", (image.height, image.width, image.bands)),
        profile=profile,
        pages=_field(opened, "n-pages", 1),
    )


def _field(image: Any, name: str, default: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else default


def _to_rgb(image: Any, profile: bytes | None) -> Any:
    if profile:
        return image.icc_transform("srgb", embedded=True, depth=16)
    return image.colourspace("rgb16")


def _scaled(image: Any, where: str) -> Any:
    if image.format not in _SCALES:
        raise ImageDecodeError(
            f"{where} has samples of libvips' type {image.format}, expected 8 or 16 bits or floating point in [0, 1]; "
            "convert it to a 16-bit PNG"
        )
    if image.format in ("float", "double"):
        low, high = image.min(), image.max()
        if low < 0 or high > 1 or (image != image).max() > 0:  # only NaN differs from itself
            raise ImageDecodeError(
                f"{where} has floating-point values from {low:g} to {high:g}, expected 0 to 1 and no NaN; scale them "
                "first"
            )
    return (image * _SCALES[image.format]).rint().cast("ushort")


def write_deep(pixels: Tensor, path: Path, kind: str, metadata: Mapping[str, bytes]) -> None:
    """Writes uint16 [h, w, 2 to 4] to a PNG or TIFF file with its ICC profile, and the PNG file
    with its EXIF.

    Raises:
        OSError: libvips cannot write it.
        PackageMissingError: pyvips is not installed.
    """
    pyvips = load_pyvips()
    height, width, channels = pixels.shape
    try:
        image = pyvips.Image.new_from_memory(memoryview(pixels), width, height, channels, "ushort")
        image = image.copy(interpretation="rgb16" if channels > 2 else "grey16")
        if "icc_profile" in metadata:
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", metadata["icc_profile"])
        if kind == "PNG":
            data = image.pngsave_buffer(bitdepth=16, compression=4, keep="icc")
            path.write_bytes(_with_exif(data, metadata["exif"]) if "exif" in metadata else data)
        else:
            big = pixels.nbytes > CLASSIC_TIFF
            image.tiffsave(str(path), compression="deflate", predictor="horizontal", bigtiff=big)
    except pyvips.Error as error:
        raise OSError(" ".join(str(error).split())) from error


def _with_exif(png: bytes, exif: bytes) -> bytes:
    """The PNG file with an eXIf chunk behind its header; libvips would rewrite the EXIF, and leaves long ones out."""
    body = b"eXIf" + exif.removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_PNG_HEADER] + chunk + png[_PNG_HEADER:]
