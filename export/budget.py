"""How much memory each stage of an export takes. In: the stages and a budget. Out: an error before any work.

What counts is the process's own (anonymous) memory plus the mapped weights. The most is held when the fp32 network
answers, with all of its weights mapped, or when ONNX Runtime runs the written file. The figures were measured with
`benchmarks/export_memory.py` and are rounded up; they are for this package's pinned versions, on two threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engines.memory import available_memory, format_size
from export.errors import MemoryBudgetError
from export.settings import BuildSettings
from export.source import Source
from export.stages import Stage
from export.verification import CASES

BASE = 1 << 30
"""Libraries, and what torch keeps of the graphs that it traced."""


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Of one graph, at full size."""

    pixel: int
    """Bytes for each latent pixel."""
    pair: int = 0
    """Bytes for each pair of latent pixels: the canonical file's `Attention` writes out every head's matrix."""


ACTIVATIONS = {
    "preprocess": Activations(pixel=1 << 18),
    "encode": Activations(pixel=1 << 18, pair=8),
    "condition": Activations(pixel=1 << 18, pair=8),
    "controlnet": Activations(pixel=1 << 18, pair=40),
    "unet": Activations(pixel=1 << 18, pair=40),
    "denoise": Activations(pixel=1 << 18, pair=40),
    "decode": Activations(pixel=1 << 18, pair=8),
}


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a stage takes at its peak."""

    name: str
    weights: int
    """Bytes of its parameters in fp32."""
    working: int
    """Bytes of activations at the sizes that it is verified at."""

    @property
    def total(self) -> int:
        """Bytes in all."""
        return BASE + self.weights + self.working


def mapped_bytes(stage: Stage) -> int:
    """Bytes of the stage's weights in fp32: what is mapped while torch works."""
    return 4 * stage.parameters


def need(stage: Stage, settings: BuildSettings) -> Need:
    """What the stage takes, estimated."""
    cases = [(b, h, w) for b, h, w, _ in CASES] if settings.static is None else [(1, *settings.static)]
    per = ACTIVATIONS[stage.spec.name]
    working = max(b * h * w * (per.pixel + h * w * per.pair) for b, h, w in cases)
    return Need(name=stage.spec.name, weights=mapped_bytes(stage), working=working)


def needs(source: Source, todo: Sequence[Stage], settings: BuildSettings) -> list[Need]:
    """Of every stage, the prompt's included."""
    found = [need(stage, settings) for stage in todo]
    if source.given_context is None:
        found.append(Need(name="the prompt's embedding", weights=4 * source.text_parameters, working=0))
    return found


def check_budget(source: Source, todo: Sequence[Stage], settings: BuildSettings) -> None:
    """Refuses an export that does not fit.

    Raises:
        MemoryBudgetError: names the stage that takes the most.
    """
    largest = max(needs(source, todo, settings), key=lambda found: found.total)
    budget = available_memory() if settings.max_memory is None else settings.max_memory
    if largest.total <= budget:
        return
    given = (
        f"this machine has {format_size(budget)} available; close other programs, take a larger machine"
        if settings.max_memory is None
        else f"--max-memory is {format_size(budget)}; give --max-memory {-(-largest.total // (1 << 20))}MiB or more"
    )
    smaller = ""
    if largest.name == "denoise":
        smaller = ", or --split-controlnet, whose graphs are smaller"
    elif settings.static is not None and largest.working > largest.weights:
        smaller = ", or a smaller --static"
    raise MemoryBudgetError(
        f"{largest.name} needs about {format_size(largest.total)} (weights {format_size(largest.weights)}, activations "
        f"{format_size(largest.working)}, libraries {format_size(BASE)}), {given}{smaller}"
    )


def exceeded(name: str, budget: int | None, error: BaseException) -> MemoryBudgetError:
    """For a stage that took more than there was."""
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    if budget is None:
        return MemoryBudgetError(f"memory ran out in {name} ({reason}); close other programs, or take a larger machine")
    return MemoryBudgetError(
        f"{name} took more than --max-memory {format_size(budget)} ({reason}); give it more, and report it: less was "
        "estimated"
    )
