"""Pictures in and out, through Pillow. In: whatever a caller calls an image. Out: 8-bit RGB pixels and what belongs to
them (alpha, grey, profile), and back.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from PIL import Image, ImageOps, UnidentifiedImageError

from engines.errors import (
    ImageDecodeError,
    ImageError,
    ImageNotFoundError,
    ImageTooLargeError,
    OutputNotWritableError,
)
from engines.files import atomic_path
from runtime.kernels import Tensor, tensor_from

MAX_PIXELS = 64_000_000
"""Inputs with more are refused before they are decoded."""

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": 4}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
}
"""Suffix to Pillow's format and how it is saved."""

_WITHOUT_ALPHA = ("JPEG",)
_MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded input."""

    pixels: Any
    """uint8 [h, w, 3], row by row: a buffer."""
    width: int
    height: int
    alpha: Image.Image | None = None
    grey: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    """ICC profile and EXIF, passed on to the result."""
    is_buffer: bool = False
    """Came as a buffer and goes back as one."""


def load_picture(source: object) -> Picture:
    """Decodes an input: a path, the bytes of an image file, an open binary file, a PIL image, or a uint8
    [h, w, 3 or 4] buffer or DLPack object.

    The EXIF orientation is applied. Grey, palette, 16-bit and CMYK pictures become 8-bit RGB; alpha is kept apart.

    Raises:
        ImageNotFoundError, ImageDecodeError, ImageTooLargeError: see there.
        ImageError: the object is none of these.
    """
    if isinstance(source, Image.Image):
        with _named_errors("the PIL image"):
            return _from_pil(source, "the PIL image")
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source))
    if isinstance(source, bytes | bytearray) or (isinstance(source, memoryview) and source.ndim == 1):
        if not len(source):
            raise ImageDecodeError("the image bytes are empty; pass the content of a PNG, JPEG, WebP or TIFF file")
        return _decode(io.BytesIO(source), "the image bytes")
    if hasattr(source, "read"):
        return _decode(source, "the image file")
    return _from_buffer(source)


def _from_file(path: Path) -> Picture:
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"there is no file {path}; check the path") from error
    except IsADirectoryError as error:
        raise ImageNotFoundError(f"{path} is a folder; name the image files in it") from error
    except (OSError, ValueError) as error:
        raise ImageNotFoundError(f"{path} cannot be read ({error}); check the path and its permissions") from error
    with file:
        return _decode(file, str(path))


def _decode(file: Any, where: str) -> Picture:
    with _named_errors(where), Image.open(file) as image:
        return _from_pil(image, where)


@contextlib.contextmanager
def _named_errors(where: str) -> Iterator[None]:
    """Turns what Pillow's decoders raise into named errors."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(
            f"{where} has far more than the {MAX_PIXELS} pixels that are read; crop or shrink it first"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageDecodeError(
            f"{where} is not an image in a format that Pillow reads; pass a PNG, JPEG, WebP or TIFF file"
        ) from error
    except (OSError, ValueError, SyntaxError, TypeError, EOFError, IndexError, struct.error) as error:
        raise ImageDecodeError(f"{where} is damaged or truncated ({error}); get a whole copy of it") from error


def _check_size(image: Image.Image, where: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageTooLargeError(
            f"{where} has {image.width}x{image.height} pixels, at most {MAX_PIXELS} are read; crop or shrink it first"
        )
    if not image.width or not image.height:
        raise ImageDecodeError(f"{where} has {image.width}x{image.height} pixels; expected at least 1x1")


def _from_pil(image: Image.Image, where: str) -> Picture:
    _check_size(image, where)
    info = {key: image.info[key] for key in ("icc_profile",) if image.info.get(key)}
    image.load()
    upright = image
    with contextlib.suppress(SyntaxError, struct.error, ValueError, TypeError, KeyError):  # damaged EXIF is left out
        upright = ImageOps.exif_transpose(image)
        if len(exif := upright.getexif()):
            info["exif"] = exif.tobytes()
    grey = upright.mode in ("1", "L", "LA", "La") or upright.mode.startswith(("I", "F"))
    if upright.mode.startswith("I"):
        upright = upright.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    alpha = None
    if upright.mode in ("La", "RGBa"):
        upright = upright.convert({"La": "LA", "RGBa": "RGBA"}[upright.mode])
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        alpha = upright.getchannel("A")
    if upright.mode == "CMYK":
        info.pop("icc_profile", None)  # it describes inks, the result has none
    rgb = upright.convert("RGB")
    pixels = memoryview(rgb.tobytes()).cast("B", (rgb.height, rgb.width, 3))
    return Picture(pixels=pixels, width=rgb.width, height=rgb.height, alpha=alpha, grey=grey, info=info)


def _from_buffer(source: object) -> Picture:
    try:
        tensor = tensor_from(source)
    except (TypeError, ValueError, BufferError) as error:
        raise ImageError(
            f"cannot read a {type(source).__name__} as an image ({error}); pass a path, bytes, a PIL image or a uint8 "
            "[h, w, 3] buffer"
        ) from error
    shape = tensor.shape
    if tensor.dtype != "uint8" or len(shape) != 3 or shape[2] not in (3, 4) or 0 in shape:
        raise ImageError(
            f"an image buffer was given as {tensor.dtype}{list(shape)}, expected uint8 [h, w, 3 or 4]; convert it to "
            "8-bit RGB, or pass a PIL image"
        )
    height, width = shape[:2]
    if height * width > MAX_PIXELS:
        raise ImageTooLargeError(
            f"the buffer has {width}x{height} pixels, at most {MAX_PIXELS} are read; crop it first"
        )
    alpha = None
    if shape[2] == 4:
        alpha = Image.frombuffer("RGBA", (width, height), cast(Any, tensor), "raw", "RGBA", 0, 1).getchannel("A")
    return Picture(pixels=tensor, width=width, height=height, alpha=alpha, is_buffer=True)


def finish_picture(pixels: Tensor, picture: Picture, size: tuple[int, int]) -> Image.Image | Tensor:
    """The result in the input's kind: resized to `size` (width, height), with its alpha, grey mode and profile.

    Args:
        pixels: uint8 [4h, 4w, 3].
        picture: the input.
        size: of the result.

    Returns:
        A PIL image, or for a buffer input a uint8 [height, width, 3 or 4] tensor.
    """
    height, width = pixels.shape[:2]
    if picture.is_buffer and picture.alpha is None and size == (width, height):
        return pixels
    image = Image.frombuffer("RGB", (width, height), cast(Any, pixels), "raw", "RGB", 0, 1)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    if picture.grey:
        image = image.convert("L")
    if picture.alpha is not None:
        image.putalpha(picture.alpha.resize(size, Image.Resampling.BICUBIC))
    if picture.is_buffer:
        return tensor_from(memoryview(image.tobytes()).cast("B", (size[1], size[0], len(image.getbands()))))
    image.info.update(picture.info)
    return image


def check_format(path: Path, *, has_alpha: bool, size: tuple[int, int]) -> None:
    """Whether the format can hold a picture of that size (width, height), before any work is done.

    Raises:
        OutputNotWritableError: unknown suffix, a format without alpha for a picture that has it, or too large for it.
    """
    if path.suffix.lower() not in FORMATS:
        raise OutputNotWritableError(f"cannot write {path}: its suffix must be one of {', '.join(FORMATS)}")
    name = FORMATS[path.suffix.lower()][0]
    if has_alpha and name in _WITHOUT_ALPHA:
        raise OutputNotWritableError(f"cannot write {path}: the picture has alpha and {name} holds none; use .png")
    if max(size) > _MAX_SIDE.get(name, max(size)):
        raise OutputNotWritableError(
            f"cannot write {path}: {name} holds sides up to {_MAX_SIDE[name]}, the picture is "
            f"{size[0]}x{size[1]}; use .png"
        )


def save_picture(image: Image.Image, path: Path) -> None:
    """Saves the picture with its profile and EXIF, whole or not at all; the suffix says the format.

    Raises:
        OutputNotWritableError: see `check_format`; or the format cannot hold the picture.
    """
    check_format(path, has_alpha=image.has_transparency_data, size=image.size)
    name, options = FORMATS[path.suffix.lower()]
    kept = {key: image.info[key] for key in ("icc_profile", "exif") if key in image.info}
    try:
        with atomic_path(path) as temporary:
            image.save(temporary, format=name, **options, **kept)
    except (ValueError, OSError) as error:
        raise OutputNotWritableError(f"cannot write {path}: {error}; choose another format or place") from error
