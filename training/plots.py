"""Plots, by matplotlib. In: a stage's `log.jsonl`. Out: `loss.png` beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engines.errors import PackageMissingError
from engines.files import atomic_path


def figure_class() -> Any:
    """matplotlib's Figure, imported when something is drawn.

    Raises:
        PackageMissingError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PackageMissingError(f"plots need matplotlib ({error}); run `pip install matplotlib`") from error
    return Figure


def plot_losses(folder: Path) -> None:
    """Draws every number of the log over the steps, one small plot each.

    Raises:
        PackageMissingError: matplotlib is not installed.
    """
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    names = [name for name in (lines[-1] if lines else {}) if name not in ("step", "seconds_a_step")]
    figure = figure_class()(figsize=(4 * max(1, len(names)), 3), layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), place)
        logged = [line for line in lines if name in line]  # a run that went on may log more than at first
        axes.plot([line["step"] for line in logged], [line[name] for line in logged], linewidth=1)
        axes.set(title=name, xlabel="step")
        axes.grid(visible=True, alpha=0.3)
    with atomic_path(folder / "loss.png") as path:
        figure.savefig(path, format="png", dpi=100)
