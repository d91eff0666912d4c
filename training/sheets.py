"""Pictures of an evaluation. In: crops and restorers. Out: a contact sheet and a plot of trends, as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engines.files import atomic_path
from training.crops import CROP, LEVELS, Bytes, Crop, Picture, bicubic, planar
from training.measures import psnr, sharpness, ssim
from training.plots import figure_class

SHEET_LEVEL, HARDEST = list(LEVELS)[1], list(LEVELS)[-1]
STEPS, ORDERS = range(1, 8), range(1, 4)
PLAN_STEPS, PLAN_ORDER = 5, 3
"""Of the multi-step model: what is fixed while the other one varies."""
_TILE, _GAP, _LABEL, _MARGIN = 192, 4, 18, 96
_STEP = 4
"""Of the sheet's colors: invisible, without the grain that a palette adds, and a third less to store."""


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Means over the crops and levels at one setting."""

    steps: int
    order: int
    psnr: float
    """dB."""
    ssim: float
    sharpness: float


def write_sheet(path: Path, judged: Sequence[Crop], restorers: Mapping[str, Callable[[Bytes], Picture]]) -> None:
    """The first and the last crop of each photograph at the middle level, and the very first at the hardest: a column
    each for the input, bicubic, every restorer and the original, with the PSNR under each.

    Raises:
        OutputNotWritableError: the folder is missing or not writable.
    """
    columns: dict[str, Callable[[Bytes], Picture]] = {"input": _nearest, "bicubic": bicubic, **restorers}
    rows = _sheet_rows(judged)
    width = _MARGIN + (len(columns) + 1) * (_TILE + _GAP)
    sheet = Image.new("RGB", (width, _LABEL + len(rows) * (_TILE + _LABEL + _GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (crop, level) in enumerate(rows):
        top = _LABEL + number * (_TILE + _LABEL + _GAP)
        draw.text((4, top + _TILE // 2 - 8), f"{crop.name}\n{level}", "black", font)
        shown = {name: restore(crop.levels[level]) for name, restore in columns.items()} | {"original": crop.original}
        for column, (name, picture) in enumerate(shown.items()):
            left = _MARGIN + column * (_TILE + _GAP)
            sheet.paste(_tile(picture), (left, top))
            if number == 0:
                draw.text((left, 2), name, "black", font)
            if name != "original":
                draw.text((left, top + _TILE + 1), f"{psnr(picture, crop.original):.2f} dB", "black", font)
    with atomic_path(path) as temporary:
        sheet.point(lambda value: min(255, round(value / _STEP) * _STEP)).save(temporary, "PNG", optimize=True)


def measure_trends(
    judged: Sequence[Crop], restorer: Callable[[int, int], Callable[[Bytes], Picture]]
) -> tuple[list[Trend], list[Trend]]:
    """Trends over 1 to 7 steps at order 3, and over orders 1 to 3 at 5 steps, as means over all crops and levels.

    Args:
        judged: the crops.
        restorer: (steps, order) to a restorer.
    """
    settings = dict.fromkeys([(steps, PLAN_ORDER) for steps in STEPS] + [(PLAN_STEPS, order) for order in ORDERS])
    found = {setting: _trend(judged, *setting, restorer(*setting)) for setting in settings}
    return [found[steps, PLAN_ORDER] for steps in STEPS], [found[PLAN_STEPS, order] for order in ORDERS]


def trend_table(over_steps: Sequence[Trend], over_orders: Sequence[Trend]) -> str:
    """Both as one Markdown table."""
    lines = ["| steps | order | PSNR, dB | SSIM | sharpness |", "| ---: | ---: | ---: | ---: | ---: |"]
    for t in (*over_steps, *(t for t in over_orders if t not in over_steps)):
        lines.append(f"| {t.steps} | {t.order} | {t.psnr:.2f} | {t.ssim:.3f} | {t.sharpness:.3f} |")
    return "\n".join(lines) + "\n"


def plot_trends(path: Path, over_steps: Sequence[Trend], over_orders: Sequence[Trend]) -> None:
    """The three measures over steps and over orders, in a PNG file.

    Raises:
        PackageMissingError: matplotlib is not installed.
        OutputNotWritableError: the folder is missing or not writable.
    """
    figure = figure_class()(figsize=(9, 5), layout="constrained")
    axes = figure.subplots(2, 3)
    labels = (("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("sharpness", "sharpness"))
    for row, (variable, trends) in enumerate((("steps", over_steps), ("order", over_orders))):
        fixed = f"order {PLAN_ORDER}" if variable == "steps" else f"{PLAN_STEPS} steps"
        for column, (measure, label) in enumerate(labels):
            plot = axes[row][column]
            x = [getattr(trend, variable) for trend in trends]
            plot.plot(x, [getattr(trend, measure) for trend in trends], marker="o", color="black")
            plot.set(xlabel=f"{variable} ({fixed})", ylabel=label, xticks=x)
            plot.grid(visible=True, alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _trend(judged: Sequence[Crop], steps: int, order: int, restore: Callable[[Bytes], Picture]) -> Trend:
    pairs = [(restore(low_res), crop.original) for crop in judged for low_res in crop.levels.values()]
    return Trend(
        steps=steps,
        order=order,
        psnr=fmean(psnr(*pair) for pair in pairs),
        ssim=fmean(ssim(*pair) for pair in pairs),
        sharpness=fmean(sharpness(*pair) for pair in pairs),
    )


def _sheet_rows(judged: Sequence[Crop]) -> list[tuple[Crop, str]]:
    rows = []
    for photograph in dict.fromkeys(crop.photograph for crop in judged):
        of_it = [crop for crop in judged if crop.photograph == photograph]
        rows += [(crop, SHEET_LEVEL) for crop in (of_it[0], of_it[-1])[: len(of_it)]]
    return [*rows, (judged[0], HARDEST)]


def _nearest(low_res: Bytes) -> Picture:
    return planar(np.asarray(Image.fromarray(low_res).resize((CROP, CROP), Image.Resampling.NEAREST)))


def _tile(picture: Picture) -> Image.Image:
    pixels = np.rint(picture.transpose(1, 2, 0) * 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
