"""ICC profiles: which ones fit a result, and colors that have to become RGB. In: a profile, an image. Out: RGB."""

from __future__ import annotations

import io

from PIL import Image

from engines.errors import PackageMissingError

_HEADER = 128
_SPACES = {b"RGB ": "RGB", b"GRAY": "grey", b"CMYK": "CMYK", b"Lab ": "Lab"}


def space_of(profile: bytes) -> str | None:
    """The colors that a profile is about: "RGB", "grey", "CMYK", "Lab"; None for others and for damaged profiles."""
    if len(profile) < _HEADER or profile[36:40] != b"acsp":
        return None
    return _SPACES.get(profile[16:20])


def check_profile(profile: bytes, *, grey: bool, converted: bool) -> tuple[bool, str | None]:
    """Whether a profile fits the result, and the notice to give where it does not.

    Args:
        profile: from the file.
        grey: the result is grey, otherwise RGB.
        converted: the colors were converted, so that the profile has done its work.
    """
    wanted, space = "grey" if grey else "RGB", space_of(profile)
    if converted or space == wanted:
        return not converted, None
    kind = f"is for {space} pictures and this one is {wanted}" if space else "is damaged"
    return False, f"its ICC profile {kind}; it is left out"


def cmyk_to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """CMYK as sRGB by its profile, and without one by Pillow's formula; with a notice where the profile is unusable."""
    if profile is None:
        return image.convert("RGB"), None
    try:
        from PIL import ImageCms
    except ImportError as error:
        return image.convert("RGB"), f"its CMYK profile needs a Pillow with LittleCMS ({error}); it is not used"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ValueError, TypeError, AttributeError, ImageCms.PyCMSError) as error:
        return image.convert("RGB"), f"its CMYK profile cannot be used ({error}); colors are converted without it"
    return converted or image.convert("RGB"), None


def lab_to_rgb(image: Image.Image) -> Image.Image:
    """CIE L*a*b* (D50, 8 bits) as sRGB.

    Raises:
        PackageMissingError: this Pillow was built without LittleCMS.
    """
    try:
        from PIL import ImageCms
    except ImportError as error:
        raise PackageMissingError(
            f"Lab colors need a Pillow with LittleCMS ({error}); run `pip install --force-reinstall pillow`"
        ) from error

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("Lab colors could not be converted")
    return converted
