"""How much memory each stage of an export takes. In: the stages and a budget. Out: an error before any work.

What counts is the process's own (anonymous) memory plus the mapped weights. The most is held when the fp32 network
answers, with all of its weights mapped, or when ONNX Runtime runs the written file. The figures were measured with
`benchmarks/export_memory.py` and are rounded up; they are for this package's pinned versions, on two threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engines.errors import MemoryBudgetError
from engines.memory import available_memory, format_size
from export.architecture import Architecture
from export.settings import BuildSettings
from export.source import Source
from export.stages import Stage
from export.verification import CASES

BASE = 1280 << 20
"""Libraries, what torch keeps of the graphs that it traced, and what the allocator keeps."""


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Of one graph at full size, where it takes the most: in ONNX Runtime without its optimizations."""

    pixel: int
    """Bytes for each latent pixel."""
    pair: int = 0
    """Bytes for each pair of latent pixels: the canonical file's `Attention` writes out every head's matrix."""
    fixed: int = 0
    """Bytes at any size."""


_ENCODE = Activations(pixel=448 << 10, pair=16)
_DENOISE = Activations(pixel=160 << 10, pair=24)
ACTIVATIONS = {
    "preprocess": Activations(pixel=64 << 10),
    "encode": _ENCODE,
    "condition": _ENCODE,
    "controlnet": _DENOISE,
    "unet": _DENOISE,
    "denoise": _DENOISE,
    "decode": Activations(pixel=600 << 10, pair=16, fixed=768 << 20),
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


def need(stage: Stage, arch: Architecture, settings: BuildSettings) -> Need:
    """What the stage takes, estimated; a narrower network's activations are narrower."""
    cases = [(b, h, w) for b, h, w, _ in CASES] if settings.static is None else [(1, *settings.static)]
    name = stage.spec.name
    per = ACTIVATIONS[name]
    if name == "preprocess":
        width = arch.rrdb.features / 64
    elif name in ("encode", "condition", "decode"):
        width = arch.vae.channels[0] / 128
    else:
        width = arch.unet.channels[0] / 320
    working = per.fixed + max(b * h * w * (per.pixel + h * w * per.pair) for b, h, w in cases)
    return Need(name=name, weights=mapped_bytes(stage), working=int(working * width))


def needs(source: Source, todo: Sequence[Stage], settings: BuildSettings) -> list[Need]:
    """Of every stage, the prompt's included."""
    found = [need(stage, source.architecture, settings) for stage in todo]
    if source.given_context is None:
        found.append(Need(name="the prompt's embedding", weights=4 * source.text_parameters, working=0))
    return found


def check_budget(found: Sequence[Need], max_memory: int | None) -> None:
    """Refuses an export that does not fit into `max_memory`, or where None into what the machine has available.

    Raises:
        MemoryBudgetError: names the stage that takes the most.
    """
    largest = max(found, key=lambda one: one.total)
    budget = available_memory() if max_memory is None else max_memory
    if largest.total <= budget:
        return
    given = (
        f"this machine has {format_size(budget)} available; close other programs, take a larger machine"
        if max_memory is None
        else f"--max-memory is {format_size(budget)}; give --max-memory {-(-largest.total // (1 << 20))}MiB or more"
    )
    smaller = ""
    if largest.name == "denoise":
        smaller = ", or --split-controlnet, whose graphs are smaller"
    elif largest.working > 1 << 30:
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
