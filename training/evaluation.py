"""Judges ways of restoring on the fixed crops. In: functions from a low-resolution picture to a restored one. Out: a
`Report` of measures and of gates met or not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from engines.errors import SettingsError
from training.crops import LEVELS, Bytes, Crop, Picture, bicubic, crops
from training.gates import Gate, gates
from training.measures import grid, grid_of, psnr, sharpness, ssim

__all__ = ["BICUBIC", "MEASURES", "Crop", "Report", "Score", "crops", "evaluate"]

Restorer = Callable[[Bytes], Picture]
"""uint8 [64, 64, 3] to float32 [3, 256, 256] in [0, 1]."""

BICUBIC = "bicubic"
MEASURES = ("psnr", "ssim", "sharpness")
"""Those that are averaged over crops."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One crop at one level, restored one way."""

    restorer: str
    crop: str
    photograph: str
    level: str
    psnr: float
    """dB."""
    ssim: float
    sharpness: float
    grid: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """Every score, and what follows from them."""

    scores: tuple[Score, ...]
    grids: Mapping[tuple[str, str], float]
    """(restorer, level or "all") to `grid_of` over the crops together."""
    vae_psnr: float | None = None
    """dB, mean over the crops: the originals through encoder and decoder."""

    @property
    def restorers(self) -> tuple[str, ...]:
        """Names, bicubic first."""
        return tuple(dict.fromkeys(score.restorer for score in self.scores))

    @property
    def photographs(self) -> tuple[str, ...]:
        """Names, in the order of the crops."""
        return tuple(dict.fromkeys(score.photograph for score in self.scores))

    def mean(
        self, measure: str, restorer: str, levels: Iterable[str] = tuple(LEVELS), photograph: str | None = None
    ) -> float:
        """Mean of one of `MEASURES` over the crops of these levels, of one photograph or of all."""
        return fmean(self._values(measure, restorer, levels, photograph))

    def largest_grid(self, restorer: str, levels: Iterable[str] = tuple(LEVELS)) -> float:
        """The largest `grid` of a single crop; for information, as content may be periodic."""
        return max(self._values("grid", restorer, levels, None))

    def _values(self, measure: str, restorer: str, levels: Iterable[str], photograph: str | None) -> list[float]:
        wanted = set(levels)
        return [
            float(getattr(score, measure))
            for score in self.scores
            if score.restorer == restorer and score.level in wanted and photograph in (None, score.photograph)
        ]

    @property
    def gates(self) -> tuple[Gate, ...]:
        """What the ways of restoring that were judged have to reach."""
        return gates(self)

    def to_json(self) -> str:
        """Means, gates and every score as one JSON object; a figure that is not finite is null."""
        means = {
            restorer: {
                level: {measure: _finite(self.mean(measure, restorer, (level,))) for measure in MEASURES}
                | {"grid": _finite(self.grids[restorer, level])}
                | {
                    photograph: {m: _finite(self.mean(m, restorer, (level,), photograph)) for m in MEASURES}
                    for photograph in self.photographs
                }
                for level in LEVELS
            }
            | {"grid": _finite(self.grids[restorer, "all"]), "largest_grid": _finite(self.largest_grid(restorer))}
            for restorer in self.restorers
        }
        found = {
            "means": means,
            "vae_psnr": None if self.vae_psnr is None else _finite(self.vae_psnr),
            "gates": [vars(gate) | {"value": _finite(gate.value)} for gate in self.gates],
            "scores": [{k: _finite(v) if isinstance(v, float) else v for k, v in vars(s).items()} for s in self.scores],
        }
        return json.dumps(found, indent=1, allow_nan=False) + "\n"

    def table(self) -> str:
        """Means by restorer and level, PSNR by photograph, and the gates, in lines of text."""
        names = "".join(f"{name:>9}" for name in self.photographs)
        lines = [
            f"{'restorer':<12}{'level':<8}{'PSNR':>7}{'SSIM':>8}{'sharp.':>8}{'grid':>7}{'(worst)':>9}  PSNR:{names}"
        ]
        for restorer in self.restorers:
            for level in LEVELS:
                means = [self.mean(measure, restorer, (level,)) for measure in MEASURES]
                apart = "".join(f"{self.mean('psnr', restorer, (level,), p):9.2f}" for p in self.photographs)
                lines.append(
                    f"{restorer:<12}{level:<8}{means[0]:7.2f}{means[1]:8.3f}{means[2]:8.3f}"
                    f"{self.grids[restorer, level]:7.3f}{self.largest_grid(restorer, (level,)):9.3f}       {apart}"
                )
        return "\n".join([*lines, "", *map(str, self.gates)]) + "\n"


def evaluate(
    restorers: Mapping[str, Restorer],
    *,
    judged: Sequence[Crop] | None = None,
    reconstruct: Callable[[Picture], Picture] | None = None,
    on_progress: Callable[[str], None] = lambda _line: None,
) -> Report:
    """Runs every restorer, and bicubic, over all crops and levels.

    Args:
        restorers: by name; "preprocess", "1 step" and "5 steps" have gates.
        judged: the crops; None: all 24.
        reconstruct: float32 [3, 256, 256] in [0, 1] through the VAE and back, likewise.
        on_progress: called with a restorer's name before its turn.

    Raises:
        SettingsError: a restorer is called "bicubic", or gave another shape than the original's, or values outside
            [0, 1].
        PackageMissingError: see `crops`.
    """
    if BICUBIC in restorers:
        raise SettingsError(f"{BICUBIC!r} is always judged; give your restorer another name")
    found = crops() if judged is None else judged
    scores: list[Score] = []
    grids = {}
    originals = [crop.original for crop in found]
    for name, restore in {BICUBIC: bicubic, **restorers}.items():
        on_progress(name)
        restored = {level: [_checked(name, restore(c.levels[level]), c.original) for c in found] for level in LEVELS}
        for level, pictures in restored.items():
            scores += [_score(name, level, crop, image) for crop, image in zip(found, pictures, strict=True)]
            grids[name, level] = grid_of(pictures, originals)
        together = [image for pictures in restored.values() for image in pictures]
        grids[name, "all"] = grid_of(together, originals * len(LEVELS))
    vae = None
    if reconstruct is not None:
        on_progress("VAE")
        vae = fmean(psnr(_checked("VAE", reconstruct(x), x), x) for x in originals)
    return Report(scores=tuple(scores), grids=grids, vae_psnr=vae)


def _score(restorer: str, level: str, crop: Crop, image: Picture) -> Score:
    return Score(
        restorer=restorer,
        crop=crop.name,
        photograph=crop.photograph,
        level=level,
        psnr=psnr(image, crop.original),
        ssim=ssim(image, crop.original),
        sharpness=sharpness(image, crop.original),
        grid=grid(image, crop.original),
    )


def _checked(name: str, image: Picture, original: Picture) -> Picture:
    if image.shape != original.shape or not (image.min() >= 0 and image.max() <= 1):
        raise SettingsError(
            f"{name} gave {list(image.shape)} in [{image.min():g}, {image.max():g}], expected {list(original.shape)} "
            "in [0, 1]; clamp or transpose it"
        )
    return image


def _finite(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
