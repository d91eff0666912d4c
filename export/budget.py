"""How much memory each stage of an export takes. In: the stages and a budget. Out: an error before any work.

What counts is the process's own (anonymous) memory plus the mapped weights. Two moments take the most: when the fp32
network answers, with all of its weights mapped, and when ONNX Runtime runs the written file.
"""

from __future__ import annotations

from collections.abc import Sequence

from export.errors import MemoryBudgetError
from export.settings import BuildSettings
from export.source import Source
from export.stages import Stage
from export.verification import CASES

BASE = 900 << 20
"""Libraries, and a traced graph."""
PIXEL_BYTES = 0


def need(stage: Stage, settings: BuildSettings) -> int:
    """Bytes that a stage takes at its peak, estimated."""
    cases = [(b, h, w) for b, h, w, _ in CASES] if settings.static is None else [(1, *settings.static)]
    pixels = max(b * h * w for b, h, w in cases)
    return BASE + 4 * stage.parameters + pixels * PIXEL_BYTES


def mapped_bytes(stage: Stage, source: Source) -> int:
    """Of the stage's fp32 weights, what is mapped rather than the process's own."""
    return 4 * stage.parameters


def check_budget(source: Source, todo: Sequence[Stage], settings: BuildSettings) -> None:
    """Refuses stages that do not fit.

    Raises:
        MemoryBudgetError: names the largest of them.
    """


def exceeded(name: str, budget: int | None, error: BaseException) -> MemoryBudgetError:
    """For a stage that took more than was estimated."""
    return MemoryBudgetError(name)
