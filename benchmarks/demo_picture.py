"""Makes the README's picture and sample: photographs made small and bad, and what bicubic and the demo model make of
them.

python benchmarks/demo_picture.py docs/demo.png docs/photo.png
"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import runtime
from runtime.default_bundle import DEMO_BUNDLE
from training.crops import LEVELS, bicubic, degrade, planar
from training.photographs import EVALUATION, load

WINDOWS = {"coffee": (60, 90), "china": (150, 60)}
"""Photograph to the top left of the 256x256 pixels that are shown."""
LEVEL, SAMPLE = "middle", "coffee"
TILE, GAP, CAPTION = 256, 8, 22


def main(picture: str, sample: str) -> None:
    photographs = {row.name: load(row) for row in EVALUATION}
    Image.fromarray(degrade(photographs[SAMPLE], LEVELS[LEVEL], (0,))).save(sample, optimize=True)
    sheet = Image.new("RGB", (4 * (TILE + GAP) + GAP, len(WINDOWS) * (TILE + GAP) + CAPTION), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    with runtime.Upscaler(DEMO_BUNDLE) as upscaler:
        for row, (name, (top, left)) in enumerate(WINDOWS.items()):
            window = photographs[name][top : top + TILE, left : left + TILE]
            low = degrade(window, LEVELS[LEVEL], (row,))
            nearest = planar(np.asarray(Image.fromarray(low).resize((TILE, TILE), Image.Resampling.NEAREST)))
            restored = planar(np.asarray(upscaler(low).image))
            for column, shown in enumerate((nearest, bicubic(low), restored, planar(window))):
                pixels = np.rint(shown.transpose(1, 2, 0) * 255).astype(np.uint8)
                sheet.paste(Image.fromarray(pixels), (GAP + column * (TILE + GAP), row * (TILE + GAP)))
    captions = ("input, 64x64", "bicubic", "demo model, 5 steps", "original")
    for column, caption in enumerate(captions):
        draw.text((GAP + column * (TILE + GAP), sheet.height - CAPTION + 2), caption, "black", font)
    sheet.save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
