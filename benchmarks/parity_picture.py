"""Makes docs/parity.png: input, the research code's picture, ours, and their difference. In: a bundle of e2e_mini.

python benchmarks/parity_picture.py BUNDLE docs/parity.png
"""

import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

import runtime

MINI = Path(__file__).parent.parent / "tests" / "golden" / "e2e_mini"
AMPLIFIED = 64
TILE, GAP, CAPTION = 256, 12, 22


def main(bundle: str, out: str) -> None:
    source = Image.open(MINI / "input_sq.png")
    research = Image.open(MINI / "o3_s5_wavelet_sq.png").convert("RGB")
    with runtime.Upscaler(bundle, device="cpu") as upscaler:
        ours = upscaler(source, noise="torch-cpu", seed=42).image
    difference = ImageChops.difference(research, ours)
    largest = max(high for _, high in difference.getextrema())
    panels = [
        (source, "input, 32x32"),
        (research, "research code, 128x128"),
        (ours, "this runtime, 128x128"),
        (difference.point(lambda v: v * AMPLIFIED), f"difference x{AMPLIFIED} (largest: {largest} of 255)"),
    ]
    sheet = Image.new("RGB", (len(panels) * (TILE + GAP) + GAP, TILE + CAPTION + 2 * GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(panels):
        left = GAP + i * (TILE + GAP)
        sheet.paste(image.resize((TILE, TILE), Image.Resampling.NEAREST), (left, GAP))
        draw.text((left, GAP + TILE + 6), caption, fill="black", font_size=13)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
