"""Checks of the bundle, and the verdict. In: what is asked for, and the probes. Out: findings on the bundle, its
memory, and on what will run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engines.backends import backend_named
from engines.base import EngineSettings
from engines.bundle import Bundle, open_bundle
from engines.errors import BundleError
from engines.graphs import UPSCALE, VAE_FACTOR
from engines.memory import available_memory, format_size
from engines.ort import PROVIDERS
from runtime.default_bundle import BUNDLE_VARIABLE, DEMO_BUNDLE
from runtime.doctor.findings import Asked, Finding, Mark, Remedy
from runtime.doctor.probing import Answer, Probes

_EXPORT = Remedy(
    aim="a bundle",
    command="python -m export.build --checkpoint model.ckpt --out DIR, or leave --bundle out for the demo model",
    needed=True,
)


def bundle(asked: Asked, _probes: Probes) -> Iterator[Finding]:
    """The bundle as the runtime would open it."""
    facts: dict[str, object] = {"folder": str(asked.bundle.absolute()), "demo": _is_demo(asked.bundle)}
    try:
        opened = open_bundle(asked.bundle, check_hashes=asked.check)
    except BundleError as error:
        text = f"{type(error).__name__}: {error}"
        yield Finding(key="bundle", mark=Mark.WARNING, text=text, facts=facts | {"error": text}, remedies=(_EXPORT,))
        return
    manifest = opened.manifest
    height, width = (manifest.axes[axis] for axis in "HW")
    static = height.min == height.max and width.min == width.max
    largest = [VAE_FACTOR * axis.max // UPSCALE for axis in (width, height)]
    forms = sorted({name for entry in manifest.graphs.values() for name in entry.lowered})
    verified = _verified(opened)
    size = sum(record.size for record in manifest.files.values())
    shape = "one shape: pictures" if static else "any size"
    kind = f"{manifest.precision}, {len(manifest.graphs)} graphs, {format_size(size)}"
    words = [
        f"{_name(asked)}: {kind}, {shape} up to {largest[0]}x{largest[1]}",
        f"forms for {', '.join(forms)}" if forms else "canonical form only",
        {True: "verified", False: "verify found it wrong", None: "not verified (`dossr verify`)"}[verified],
        "hashes right" if asked.check else "sizes right, hashes not checked (--check)",
    ]
    yield Finding(
        key="bundle",
        mark=Mark.WARNING if verified is False else Mark.OK,
        text="; ".join(words),
        facts=facts
        | {
            "precision": str(manifest.precision),
            "graphs": list(manifest.graphs),
            "static": static,
            "largest": largest,
            "lowered": forms,
            "verified": verified,
            "hashes_checked": asked.check,
            "size": size,
            "checkpoint": manifest.checkpoint.get("file"),
        },
    )


def _is_demo(folder: Path) -> bool:
    return folder.resolve() == DEMO_BUNDLE.resolve()


def _name(asked: Asked) -> str:
    if _is_demo(asked.bundle):
        return "the demo model that ships"
    return f"{asked.bundle}" + ("" if asked.named else f" (${BUNDLE_VARIABLE})")


def _verified(opened: Bundle) -> bool | None:
    """What the last `dossr verify` found; None where there was none."""
    engines = opened.manifest.verified.get("engines", {})
    passed = [engine["passed"] for engine in engines.values() if engine["ran"]]
    return all(passed) if passed else None


def memory(asked: Asked, _probes: Probes) -> Iterator[Finding]:
    """What may be taken, and what the bundle's engines take on a CPU, by the runtime's own estimate."""
    available = available_memory()
    words, facts, mark = f"{format_size(available)} available", {"available": available}, Mark.OK
    try:
        opened = open_bundle(asked.bundle, check_hashes=False)
        backend, settings = backend_named("onnxruntime"), EngineSettings(device="cpu")
        need = sum(backend.footprint(opened, name, settings).open for name in opened.manifest.graphs)
    except BundleError:
        pass  # the bundle's own finding says so
    else:
        facts["open_on_cpu"] = need
        words += f"; the bundle's engines take {format_size(need)} on a CPU, besides the picture's own"
        if need > available:
            words, mark = f"{words}: pass --max-memory {available >> 20}MiB", Mark.WARNING
    yield Finding(key="memory", mark=mark, text=words, facts=facts)


def verdict(asked: Asked, probes: Probes) -> Iterator[Finding]:
    """What will run, as the runtime itself says, and why."""
    answers = (probes.answer(*probe) for probe in (verdict_probe(asked), ("onnxruntime",), ("driver",)))
    yield verdict_finding(asked, *answers)


def verdict_probe(asked: Asked) -> tuple[str, ...]:
    """The probe in which the runtime says whether what is asked for runs."""
    return ("run", asked.engine, asked.device, str(asked.bundle), "hashes" if asked.check else "")


def verdict_finding(asked: Asked, answer: Answer, ort: Answer, driver: Answer) -> Finding:
    """From the answers of the probes `run`, `onnxruntime` and `driver`."""
    given = {"asked_engine": asked.engine, "asked_device": asked.device, "bundle": str(asked.bundle.absolute())}
    facts = {**given, "engine": None, "prepared": None, "opened": None, **answer.facts}
    if answer.message:
        text = f"{answer.error}: {answer.message}" if answer.error else f"the runtime {answer.message}"
        return Finding(key="run", mark=Mark.WARNING, text=f"nothing runs: {text}", facts=facts | {"error": text})
    opened = facts["opened"] or facts["prepared"]
    why = ["the fastest engine that is usable" if asked.engine == "auto" else f"--engine {asked.engine}"]
    mark, reason = _device_reason(asked.device, facts["prepared"], opened, ort, driver)
    why.append(reason)
    return Finding(
        key="run",
        mark=mark,
        text=f"{opened}, bundle {asked.bundle.resolve().name} ({'; '.join(why)})",
        facts=facts | {"error": None, "why": why},
    )


def _device_reason(asked: str, prepared: str, opened: str, ort: Answer, driver: Answer) -> tuple[Mark, str]:
    """Why the graph was opened on that device, and whether that is as good as it could be."""
    cuda = PROVIDERS["cuda"]
    if asked != "auto":
        return Mark.OK, f"--device {asked}"
    if not opened.startswith(prepared):
        return Mark.WARNING, f"{prepared.rpartition(', ')[2]} was chosen first, and does not load"
    if cuda in opened:
        return Mark.OK, "there is a GPU, and CUDA loads"
    if opened.startswith("tensorrt"):
        return Mark.OK, "there is a GPU, and the bundle has engines for it"
    if not driver.facts.get("gpus"):
        return Mark.OK, "no NVIDIA GPU was found"
    if cuda in ort.facts.get("providers", ()):
        return Mark.WARNING, "there is a GPU, but ONNX Runtime's CUDA does not load"
    return Mark.WARNING, "there is a GPU, but this ONNX Runtime has no CUDA"
