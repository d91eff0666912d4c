"""All checks, in the order of the screen. In: what is asked for. Out: findings; a check that fails is one, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runtime.doctor.engines import engines
from runtime.doctor.findings import Asked, Finding, Mark
from runtime.doctor.libraries import TENSORRT_PROBES, onnxruntime, package, tensorrt
from runtime.doctor.machine import driver, system
from runtime.doctor.model import bundle, memory, verdict, verdict_probe
from runtime.doctor.probing import Answer, Probes

Check = Callable[[Asked, Probes], Iterable[Finding]]
CHECKS: dict[str, Check] = {
    "system": system,
    "driver": driver,
    "onnxruntime": onnxruntime,
    "tensorrt": tensorrt,
    "package": package,
    "bundle": bundle,
    "engines": engines,
    "memory": memory,
    "run": verdict,
}


def examine(asked: Asked) -> tuple[list[Finding], Answer]:
    """Every check's findings, and the runtime's own answer to what is asked for. Raises nothing of what it meets."""
    with Probes() as probes:
        for probe in (("driver",), ("native",), ("onnxruntime",), verdict_probe(asked), *TENSORRT_PROBES):
            probes.start(*probe)
        found = [finding for name, check in CHECKS.items() for finding in run_check(name, check, asked, probes)]
        return found, probes.answer(*verdict_probe(asked))


def run_check(name: str, check: Check, asked: Asked, probes: Probes) -> list[Finding]:
    """A check's findings up to where it fails, if it does."""
    found = []
    try:
        for finding in check(asked, probes):
            found.append(finding)
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        text = f"the check {name} failed ({words}); please report this"
        found.append(Finding(key=f"{name}.failed", mark=Mark.WARNING, text=text, facts={"error": words}))
    return found
