"""What a trained model has to reach. In: the means of an evaluation. Out: gates, each met or not.

Differences are taken against bicubic enlarging of the same low-resolution pictures. The harder levels are all but the
lightest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from training.crops import HARDER, LEVELS, LIGHTEST

PREPROCESS, ONE_STEP, FIVE_STEPS = "preprocess", "1 step", "5 steps"
"""Restorers that have gates."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One requirement and the figure that meets it or does not."""

    name: str
    value: float
    requirement: str
    met: bool

    def __str__(self) -> str:
        return f"{'met    ' if self.met else 'NOT MET'}  {self.name}: {self.value:.3f}, required {self.requirement}"


class Means(Protocol):
    """What the gates read of a `training.evaluation.Report`."""

    @property
    def restorers(self) -> tuple[str, ...]:
        """Names of those judged."""

    @property
    def photographs(self) -> tuple[str, ...]:
        """Names."""

    @property
    def grids(self) -> Mapping[tuple[str, str], float]:
        """(restorer, "all") to the grid over all crops."""

    @property
    def vae_psnr(self) -> float | None:
        """dB."""

    def mean(self, measure: str, restorer: str, levels: Iterable[str] = ..., photograph: str | None = ...) -> float:
        """See `training.evaluation.Report.mean`."""


def gates(report: Means) -> tuple[Gate, ...]:
    """The gates of every restorer that was judged. NaN meets none."""
    found = []
    if PREPROCESS in report.restorers:
        found += _preprocess(report)
    if report.vae_psnr is not None:
        found.append(_at_least("VAE: PSNR of the originals, dB", report.vae_psnr, 25))
    if ONE_STEP in report.restorers:
        found += _one_step(report)
    if FIVE_STEPS in report.restorers:
        found += _five_steps(report)
    return tuple(found)


def _preprocess(report: Means) -> list[Gate]:
    worst, where = min(
        (_gain(report, "psnr", PREPROCESS, (level,), photograph), f"{photograph}, {level}")
        for level in LEVELS
        for photograph in report.photographs
    )
    everywhere = _gain(report, "ssim", PREPROCESS)
    return [
        _at_least("preprocess: PSNR over bicubic, harder levels, dB", _gain(report, "psnr", PREPROCESS, HARDER), 0.5),
        _at_least(f"preprocess: PSNR over bicubic at its worst ({where}), dB", worst, -0.1),
        _at_least(
            f"preprocess: SSIM over bicubic, harder levels (all levels: {everywhere:+.3f})",
            _gain(report, "ssim", PREPROCESS, HARDER),
            0.05,
        ),
    ]


def _one_step(report: Means) -> list[Gate]:
    similarity = _gain(report, "ssim", ONE_STEP)
    each = ", ".join(f"{level} {_gain(report, 'ssim', ONE_STEP, (level,)):+.3f}" for level in LEVELS)
    return [
        _at_least("1 step: PSNR over bicubic, harder levels, dB", _gain(report, "psnr", ONE_STEP, HARDER), 0),
        _at_least("1 step: PSNR over bicubic, lightest level, dB", _gain(report, "psnr", ONE_STEP, (LIGHTEST,)), -0.7),
        Gate(name=f"1 step: SSIM over bicubic ({each})", value=similarity, requirement="above 0", met=similarity > 0),
    ]


def _five_steps(report: Means) -> list[Gate]:
    sharp, grid = report.mean("sharpness", FIVE_STEPS), report.grids[FIVE_STEPS, "all"]
    return [
        Gate(name="5 steps: sharpness", value=sharp, requirement="0.6 to 1.1", met=0.6 <= sharp <= 1.1),
        _at_least("5 steps: PSNR over bicubic, dB", _gain(report, "psnr", FIVE_STEPS), -1.5),
        Gate(name="5 steps: grid", value=grid, requirement="at most 1.1", met=grid <= 1.1),
    ]


def _gain(
    report: Means, measure: str, restorer: str, levels: Iterable[str] = tuple(LEVELS), photograph: str | None = None
) -> float:
    chosen = tuple(levels)
    return report.mean(measure, restorer, chosen, photograph) - report.mean(measure, "bicubic", chosen, photograph)


def _at_least(name: str, value: float, least: float) -> Gate:
    return Gate(name=name, value=value, requirement=f"at least {least:g}", met=value >= least)
