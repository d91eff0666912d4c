"""Photographs that installed Python packages carry. In: a row of a table. Out: its pixels.

`TRAINING` and `EVALUATION` are all that may be used; `DATA.md` gives the packages' own words on each licence, and the
pictures left out for want of one. Files are located, and their packages never imported.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from engines.errors import DossrError, PackageMissingError

DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


class PhotographMissingError(DossrError):
    """An installed package lacks the photograph, or its file is not a readable picture."""


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One picture of an installed package: `file` is relative to the folder of the importable `package`."""

    name: str
    package: str
    file: str
    licence: str
    source: str
    weight: float = 1.0
    """How often training picks it, relative: large, nearly empty ones teach little."""


CC0 = "CC0 1.0"
PUBLIC_DOMAIN = "public domain"
NO_RESTRICTIONS = "no known copyright restrictions"
CC_BY_2 = "CC BY 2.0"


def _skimage(name: str, licence: str, source: str, kind: str = "png", weight: float = 1.0) -> Photograph:
    file = f"data/{name}.{kind}"
    return Photograph(name=name, package="skimage", file=file, licence=licence, source=source, weight=weight)


TRAINING: tuple[Photograph, ...] = (
    _skimage("astronaut", PUBLIC_DOMAIN, "NASA Great Images, flic.kr/p/r9qvLn", weight=4),
    _skimage("retina", CC0, "Mikael Häggström, Wikimedia Commons", "jpg", weight=0.5),
    _skimage("hubble_deep_field", PUBLIC_DOMAIN, "NASA, HubbleSite release 2012/37", "jpg"),
    _skimage("ihc", NO_RESTRICTIONS, "Center for Microscopy And Molecular Imaging (CMMI)", weight=1.5),
    _skimage("brick", CC0, "CC0Textures, Bricks25"),
    _skimage("grass", CC0, "linolafett, DeviantArt, Grass-01"),
    _skimage("gravel", CC0, "CC0Textures, Gravel04"),
    _skimage("camera", CC0, "Lav Varshney", weight=2),
    _skimage("cell", CC0, "Müller et al., Optics Express 26(8), 2018", weight=0.5),
    _skimage("coins", NO_RESTRICTIONS, "Brooklyn Museum Collection, image 51611", weight=1.5),
    _skimage("text", PUBLIC_DOMAIN, "Wikipedia, File:Corner.png"),
    _skimage("clock_motion", PUBLIC_DOMAIN, "Stefan van der Walt"),
    Photograph(
        name="flower",
        package="sklearn",
        file="datasets/images/flower.jpg",
        licence=CC_BY_2,
        source="danielbuechele by the README's words, flickr.com/photos/vultilion/6056698931 by its link",
        weight=4,
    ),
    Photograph(
        name="grace_hopper",
        package="matplotlib",
        file="mpl-data/sample_data/grace_hopper.jpg",
        licence=PUBLIC_DOMAIN,
        source="United States Navy portrait, commons.wikimedia.org/wiki/File:Grace_Hopper.jpg",
        weight=3,
    ),
)

EVALUATION: tuple[Photograph, ...] = (
    _skimage("chelsea", CC0, "Stefan van der Walt"),
    _skimage("coffee", CC0, "Rachel Michetti, courtesy of Pikolo Espresso Bar"),
    Photograph(
        name="china",
        package="sklearn",
        file="datasets/images/china.jpg",
        licence=CC_BY_2,
        source="danielbuechele, flickr.com/photos/danielbuechele/6061409035",
    ),
)


def training_photographs() -> tuple[Photograph, ...]:
    """The photographs that training may see: never one of `EVALUATION`, neither by name nor by file."""
    held_out = {photograph.name for photograph in EVALUATION} | {photograph.file for photograph in EVALUATION}
    return tuple(p for p in TRAINING if p.name not in held_out and p.file not in held_out)


def package_folder(package: str) -> Path:
    """The folder of an importable top-level package, found without importing it.

    Raises:
        PackageMissingError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    folders = None if spec is None else spec.submodule_search_locations
    if not folders:
        distribution = DISTRIBUTIONS.get(package, package)
        raise PackageMissingError(
            f"pictures or fonts are read from the Python package {package!r}, which is not installed; "
            f"run `pip install {distribution}`"
        )
    return Path(next(iter(folders)))


def load(photograph: Photograph) -> NDArray[np.uint8]:
    """A photograph's pixels, uint8 [height, width, 3], RGB, 0..255; a grey one as three equal planes.

    Raises:
        PackageMissingError: its package is not installed.
        PhotographMissingError: the package is there without the file, or the file is not a picture.
    """
    path = package_folder(photograph.package) / photograph.file
    distribution = DISTRIBUTIONS.get(photograph.package, photograph.package)
    remedy = f"run `pip install --force-reinstall {distribution}`"
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"), dtype=np.uint8)
    except FileNotFoundError as error:
        raise PhotographMissingError(
            f"photograph {photograph.name!r} was expected at {path}, where there is no file; {remedy}"
        ) from error
    except (UnidentifiedImageError, OSError) as error:
        raise PhotographMissingError(
            f"photograph {photograph.name!r} at {path} is not a readable picture ({error}); {remedy}"
        ) from error
