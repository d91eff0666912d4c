"""Pillow's images in every mode, as 8- or 16-bit pixels. In: a PIL image. Out: a `Picture`."""

from __future__ import annotations

from typing import Any, cast

from PIL import Image

from engines.errors import ImageDecodeError
from runtime.images.exif import upright_with_exif
from runtime.images.picture import DAMAGED, Picture, check_size
from runtime.images.planes import join, plane_at, plane_from_bytes
from runtime.images.profiles import check_profile, cmyk_to_rgb, lab_to_rgb
from runtime.kernels import Tensor, planar_to_image

_GREY = ("1", "L", "LA", "La")
_ANIMATED = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags


def from_pil(image: Image.Image, where: str, *, is_file: bool = False) -> Picture:
    """The picture, upright, with its alpha apart.

    Grey stays grey, and has 16 bits in the modes I;16, I (values in 0..65535) and F (values in [0, 1]); everything else
    becomes 8-bit RGB. For files, later frames are counted and left out with a notice.
    """
    check_size(image.width, image.height, where)
    image.load()
    upright, exif = upright_with_exif(image)
    notices = []
    profile = image.info.get("icc_profile") or None
    converted = upright.mode in ("CMYK", "LAB")
    alpha = None
    if grey := upright.mode in _GREY or upright.mode.startswith(("I", "F")):
        color, alpha = _grey(upright, image, where)
    else:
        if upright.mode == "CMYK":
            upright, notice = cmyk_to_rgb(upright, profile)
            notices += [notice] if notice else []
        elif upright.mode == "LAB":
            upright = lab_to_rgb(upright)
        upright = upright.convert("RGBA") if upright.mode == "RGBa" else upright
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            alpha = upright.getchannel("A")
        color = upright.convert("RGB")
    metadata = {"exif": exif} if exif else {}
    if profile:
        fits, notice = check_profile(profile, grey=grey, converted=converted)
        metadata |= {"icc_profile": profile} if fits else {}
        notices += [notice] if notice else []
    if is_file and (notice := frames_notice(image)):
        notices.append(notice)
    width, height = color.size
    pixels: Any = join([color]) if grey else memoryview(color.tobytes()).cast("B", (height, width, 3))
    return Picture(
        pixels=pixels,
        width=width,
        height=height,
        bit_depth=16 if color.mode == "I;16" else 8,
        alpha=alpha,
        grey=grey,
        metadata=metadata,
        notices=tuple(f"{where}: {notice}" for notice in notices),
    )


def _grey(upright: Image.Image, image: Image.Image, where: str) -> tuple[Image.Image, Image.Image | None]:
    """Grey of mode L or I;16, and alpha of the same mode."""
    if upright.mode == "F":
        return _from_floats(upright, where), None
    if not upright.mode.startswith("I"):
        upright = upright.convert("LA") if upright.mode == "La" else upright
        if upright.has_transparency_data:
            both = upright.convert("LA")
            return both.getchannel("L"), both.getchannel("A")
        return upright.convert("L"), None
    deep = _sixteen_bits(upright, image, where)
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return deep, None
    opaque = [255] * 65536
    opaque[transparent & 0xFFFF] = 0
    return deep, plane_at(deep.convert("I").point(opaque, "L"), 16)


def _sixteen_bits(upright: Image.Image, image: Image.Image, where: str) -> Image.Image:
    if upright.mode != "I;16":
        wide = upright.convert("I")
        low, high = _extremes(wide)
        if low < 0 or high > 65535:
            raise ImageDecodeError(
                f"{where} has grey values from {low} to {high}, expected 0 to 65535; scale them to 16 bits first"
            )
        upright = wide.convert("I;16")
    tags = getattr(image, "tag_v2", {})
    if tags.get(_BITS_PER_SAMPLE) == (12,):
        upright = upright.point(lambda value: value * (65535 / 4095) + 0.5)
    if tags.get(_PHOTOMETRIC) == 0:  # white is 0, which Pillow turns round at 8 bits only
        upright = upright.point(lambda value: value * -1 + 65535)
    return upright


def _from_floats(image: Image.Image, where: str) -> Image.Image:
    """Mode F with values in [0, 1] in 16 bits; the kernel that rounds results rounds these too, and sees NaN."""
    width, height = image.size
    planes, pixels = Tensor((1, 3, height, width)), Tensor((height, width, 1), "uint16")
    values = memoryview(image.tobytes("raw", "F;32NF")).cast("B").cast("f", (height, width))
    for plane in range(3):
        planes.slice(0).slice(plane).copy_from(values)
    low, high = _extremes(image)
    if not planar_to_image(planes, pixels) <= 1 or low < 0:  # so that NaN is refused, too
        raise ImageDecodeError(
            f"{where} has floating-point values from {low} to {high}, expected 0 to 1 and no NaN; scale them first"
        )
    return plane_from_bytes(memoryview(pixels).tobytes(), (width, height), 16)


def _extremes(plane: Image.Image) -> tuple[float, float]:
    return cast(tuple[float, float], plane.getextrema())


def frames_notice(image: Image.Image) -> str | None:
    """The notice for a file of several frames; run last, because it moves within the file."""
    if image.format not in _ANIMATED:
        return None
    name = "page" if image.format == "TIFF" else "frame"
    try:
        count = getattr(image, "n_frames", 1)
    except DAMAGED:
        return f"the first {name} is taken; those after it are damaged"
    return f"the first of {count} {name}s is taken" if count > 1 else None
