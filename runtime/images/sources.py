"""Whatever a caller calls an image, decoded. In: a path, bytes, a file, a PIL image or a buffer. Out: a `Picture`."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from engines.errors import DossrError, ImageDecodeError, ImageError, ImageNotFoundError, ImageTooLargeError
from runtime.images.exif import exif_bytes, orientation_of
from runtime.images.modes import frames_notice, from_pil
from runtime.images.picture import DAMAGED, MAX_PIXELS, Picture, check_size
from runtime.images.planes import flat, plane_from_bytes
from runtime.images.profiles import check_profile
from runtime.images.vips import INSTALL, DeepPixels, has_pyvips, read_deep
from runtime.kernels import CudaError, host_copy

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NO_PIXELS = ("EPS", "WMF")
_BITS_PER_SAMPLE = 258  # TIFF tag


def load_picture(source: object) -> Picture:
    """Decodes an input: a path, the bytes of an image file, an open binary file, a PIL image, or a uint8 or uint16
    [h, w, 3 or 4] buffer or DLPack object. A `Picture` is decoded already.

    The EXIF orientation is applied. Grey stays grey, 16 bits stay 16 bits; palettes, CMYK, Lab and the rest become
    8-bit RGB; alpha is kept apart. docs/images.md has the table.

    Raises:
        ImageNotFoundError, ImageDecodeError, ImageTooLargeError: see there.
        ImageError: the object is none of these.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        with _named_errors("the PIL image"):
            return from_pil(source, "the PIL image")
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source))
    if isinstance(source, bytes | bytearray) or (isinstance(source, memoryview) and source.ndim == 1):
        if not len(source):
            raise ImageDecodeError("the image bytes are empty; pass the content of a PNG, JPEG, WebP or TIFF file")
        return _decode(io.BytesIO(source), "the image bytes")
    if hasattr(source, "read"):
        return _decode(source, "the image file")
    return _from_buffer(source)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, upright, from its header; a kind that Pillow does not know is decoded.

    Raises:
        ImageNotFoundError, ImageDecodeError, ImageTooLargeError: see `load_picture`.
    """
    with _opened(path) as file, _named_errors(str(path)):
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            picture = _decode(file, str(path))
            return picture.width, picture.height
        with image:
            check_size(image.width, image.height, str(path))
            turned = orientation_of(image) > 4
            return (image.height, image.width) if turned else (image.width, image.height)


def _from_file(path: Path) -> Picture:
    with _opened(path) as file:
        return _decode(file, str(path))


def _opened(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise ImageNotFoundError(f"{path} is a folder; name the image files in it")
        if path.exists() and not path.is_file():
            raise ImageNotFoundError(f"{path} is no regular file; copy what it gives into one")
        return path.open("rb")
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"there is no file {path}; check the path") from error
    except (OSError, ValueError) as error:
        raise ImageNotFoundError(f"{path} cannot be read ({error}); check the path and its permissions") from error


def _decode(file: Any, where: str) -> Picture:
    with _named_errors(where):
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            if picture := _unknown_tiff(file, where):
                return picture
            raise
        with image:
            check_size(image.width, image.height, where)
            if image.format in _NO_PIXELS:  # Pillow would start Ghostscript
                raise ImageDecodeError(f"{where}: {image.format} describes no pixels; render it to a PNG file first")
            if not _is_deep_color(image):
                return from_pil(image, where, is_file=True)
            readable = image.format != "PPM"  # libvips as its wheels have it reads that from named files only
            if readable and has_pyvips():
                return _deep(file, image, where)
            reason = f"because pyvips is not installed; {INSTALL}" if readable else "as PPM; pass a PNG or TIFF file"
            shallow = from_pil(image, where, is_file=True)
            notice = f"{where}: 16-bit color is read as 8-bit, {reason}"
            return dataclasses.replace(shallow, notices=(*shallow.notices, notice))


@contextlib.contextmanager
def _named_errors(where: str) -> Iterator[None]:
    """Turns what Pillow's decoders raise into named errors."""
    try:
        yield
    except DossrError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(
            f"{where} has far more than the {MAX_PIXELS} pixels that are read; crop or shrink it first"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageDecodeError(
            f"{where} is not an image in a format that Pillow reads; pass a PNG, JPEG, WebP or TIFF file"
        ) from error
    except DAMAGED as error:
        raise ImageDecodeError(f"{where} is damaged or truncated ({error}); get a whole copy of it") from error


def _is_deep_color(image: Image.Image) -> bool:
    """Whether the file has 16 bits in several channels, of which Pillow would give 8."""
    if image.mode.startswith("I"):
        return False
    tiles: Any = getattr(image, "tile", ())
    if image.format == "PNG":
        return bool(tiles) and ";16" in str(tiles[0][3])
    if image.format == "PPM":
        return bool(tiles) and tiles[0][3] == (image.mode, 65535)
    return image.format == "TIFF" and max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))) == 16


def _content(file: Any) -> bytes:
    file.seek(0)
    return bytes(file.read())


def _deep(file: Any, image: Image.Image, where: str) -> Picture:
    """16-bit color through pyvips, with the EXIF as Pillow reads it."""
    orientation, exif, notice = orientation_of(image), exif_bytes(image), frames_notice(image)
    deep = read_deep(_content(file), str(image.format), where, orientation=orientation)
    return _from_deep(deep, where, exif, notice)


def _unknown_tiff(file: Any, where: str) -> Picture | None:
    """A TIFF file of a kind that Pillow does not read (grey with alpha at 16 bits, floating-point color)."""
    data = _content(file)
    if not data:
        raise ImageDecodeError(f"{where} is empty; pass a PNG, JPEG, WebP or TIFF file")
    if not data.startswith(_TIFF_MAGIC):
        return None
    if not has_pyvips():
        raise ImageDecodeError(f"{where} is damaged, or a TIFF file of a kind that needs pyvips; {INSTALL}")
    deep = read_deep(data, "TIFF", where)
    return _from_deep(deep, where, b"", f"the first of {deep.pages} pages is taken" if deep.pages > 1 else None)


def _from_deep(deep: DeepPixels, where: str, exif: bytes, notice: str | None) -> Picture:
    pixels, alpha = deep.pixels, None
    height, width, channels = pixels.shape  # type: ignore[misc]
    if channels in (2, 4):
        samples = flat(pixels, 16)
        alpha = plane_from_bytes(samples[channels - 1 :: channels].tobytes(), (width, height), 16)
        if channels == 2:
            pixels = memoryview(samples[::2].tobytes()).cast("H", (height, width, 1))
    metadata = {"exif": exif} if exif else {}
    notices = [notice]
    if deep.profile:
        fits, unfit = check_profile(deep.profile, grey=channels < 3, converted=False)
        metadata |= {"icc_profile": deep.profile} if fits else {}
        notices.append(unfit)
    return Picture(
        pixels=pixels,
        width=width,
        height=height,
        bit_depth=16,
        alpha=alpha,
        grey=channels < 3,
        metadata=metadata,
        notices=tuple(f"{where}: {notice}" for notice in notices if notice),
    )


def _from_buffer(source: object) -> Picture:
    try:
        tensor = host_copy(source)
    except (TypeError, ValueError, BufferError, CudaError) as error:
        raise ImageError(
            f"cannot read a {type(source).__name__} as an image ({error}); pass a path, bytes, a PIL image or a uint8 "
            "or uint16 [h, w, 3] buffer"
        ) from error
    shape = tensor.shape
    if tensor.dtype not in ("uint8", "uint16") or len(shape) != 3 or shape[2] not in (3, 4) or 0 in shape:
        raise ImageError(
            f"an image buffer was given as {tensor.dtype}{list(shape)}, expected uint8 or uint16 [h, w, 3 or 4]; "
            "convert it to 8- or 16-bit RGB, or pass a PIL image"
        )
    height, width = shape[:2]
    check_size(width, height, "the buffer")
    bits = 16 if tensor.dtype == "uint16" else 8
    alpha = None
    if shape[2] == 4:
        alpha = plane_from_bytes(flat(tensor, bits)[3::4].tobytes(), (width, height), bits)
    return Picture(pixels=tensor, width=width, height=height, bit_depth=bits, alpha=alpha, is_buffer=True)
