"""Pictures of text. In: a random generator and a side in pixels. Out: uint8 [size, size, 3].

The fonts are those that matplotlib ships under free licences, and Pillow's own (see `DATA.md`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from training.photographs import package_folder
from training.textures import GROUNDS, Pixels, colors, pick

PILLOW = "Pillow's default"
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10", PILLOW),
)
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiouy"
DIGITS, SYMBOLS = "0123456789.,-", "?!&%#@+*/()=$:;"


@lru_cache(maxsize=512)
def font(name: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font by name in a whole number of pixels.

    Raises:
        PackageMissingError: matplotlib, which carries the fonts, is not installed.
    """
    if name == PILLOW:
        return ImageFont.load_default(size)
    path = package_folder("matplotlib") / "mpl-data/fonts/ttf" / f"{name}.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def word(rng: Generator) -> str:
    """A word that can be spoken, a number, single letters or signs; in any case."""
    way = rng.random()
    if way < 0.15:
        return "".join(DIGITS[i] for i in rng.integers(len(DIGITS), size=int(rng.integers(1, 7))))
    if way < 0.2:
        return "".join(SYMBOLS[i] for i in rng.integers(len(SYMBOLS), size=int(rng.integers(1, 3))))
    length = int(rng.integers(1, 10))
    turn = int(rng.integers(2))
    sounds = rng.random(length)
    letters = (VOWELS if (i + turn) % 2 else CONSONANTS for i in range(length))
    spoken = "".join(row[int(sound * len(row))] for row, sound in zip(letters, sounds, strict=True))
    case = rng.random()
    return spoken.upper() if case < 0.2 else spoken.capitalize() if case < 0.4 else spoken


def inks(rng: Generator, ground: Pixels, count: int) -> list[tuple[int, int, int]]:
    """Colors that stand out from the ground: mostly dark on light or light on dark."""
    light = float(ground.mean()) > 127
    chosen = colors(rng, count) * 0.5
    if not light:
        chosen = 255 - chosen
    if rng.random() < 0.35:
        chosen = chosen * 0 + (rng.uniform(0, 40) if light else rng.uniform(215, 255))
    return [(int(r), int(g), int(b)) for r, g, b in chosen]


def page(rng: Generator, size: int) -> Image.Image:
    """A mask with lines of running text in one font, tiny to middling."""
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    height = int(np.exp(rng.uniform(np.log(6), np.log(28))))
    face = font(FONTS[rng.integers(len(FONTS))], height)
    leading = height * rng.uniform(1.1, 1.6)
    indent, y = int(rng.integers(-8, 16)), float(rng.integers(-4, 10))
    words = [word(rng) for _ in range(24)]
    while y < size:
        line = " ".join(words[i] for i in rng.integers(len(words), size=min(24, 2 + 2 * size // (height + 2))))
        draw.text((indent, y), line, fill=255, font=face)
        y += leading
    return mask


def placard(rng: Generator, size: int) -> Image.Image:
    """A mask with one or two words, large, sometimes outlined."""
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    for _ in range(int(rng.integers(1, 4))):
        height = int(np.exp(rng.uniform(np.log(min(20, size / 2)), np.log(size))))
        face = font(FONTS[rng.integers(len(FONTS))], height)
        x, y = rng.uniform(-0.1, 0.5) * size, rng.uniform(-0.1, 0.8) * size
        outlined = rng.random() < 0.2
        draw.text((x, y), word(rng), fill=0 if outlined else 255, font=face, stroke_width=2 * outlined, stroke_fill=255)
    return mask


def scattered(rng: Generator, size: int) -> Image.Image:
    """A mask with words of several sizes and fonts all over."""
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    for _ in range(int(rng.integers(6, 24))):
        height = int(np.exp(rng.uniform(np.log(6), np.log(max(12, size / 5)))))
        face = font(FONTS[rng.integers(len(FONTS))], height)
        draw.text(tuple(rng.uniform(-0.1, 0.9, 2) * size), word(rng), fill=255, font=face)
    return mask


LAYOUTS = (page, placard, scattered)


def lettering(rng: Generator, size: int) -> Pixels:
    """Text of one or two layouts on a plain, graded or textured ground, straight or turned."""
    ground = pick(rng, GROUNDS)(rng, size)
    if rng.random() < 0.35:
        paper = rng.uniform(200, 255)
        ground = (paper + (ground - paper) * rng.uniform(0, 0.25)).astype(np.uint8)
    image = Image.fromarray(ground)
    chosen = inks(rng, ground, 2)
    for i in range(2 if rng.random() < 0.25 else 1):
        if rng.random() < 0.4:
            wide = int(size * 1.42)
            mask = LAYOUTS[rng.integers(len(LAYOUTS))](rng, wide)
            few = rng.random() < 0.6
            angle = rng.normal(0, 6) if few else rng.uniform(0, 360)
            edge = (wide - size) // 2
            mask = mask.rotate(angle, Image.Resampling.BICUBIC).crop((edge, edge, edge + size, edge + size))
        else:
            mask = LAYOUTS[rng.integers(len(LAYOUTS))](rng, size)
        image.paste(chosen[i], (0, 0), mask)
    return np.array(image)
