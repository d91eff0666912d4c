"""The verification itself. In: `VerifySettings`. Out: a `Report`, and the decoded pictures it speaks of.

The reference restores the sample first, and every call of it is kept. Each engine then walks the same way: every call
once with the reference's inputs, once with its own. Where a graph fails, the search for the reason follows.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engines import hash_cache
from engines.bundle import Bundle, Precision, open_bundle
from engines.errors import EngineUnavailableError, PackageMissingError, SettingsError
from export.figures import Array
from export.progress import Reporter
from export.settings import tools
from export.verifying.candidates import candidates
from export.verifying.judgement import Judgement
from export.verifying.reference import OnnxReference, Reference, other_bundle
from export.verifying.report import EngineReport, Report
from export.verifying.sample import make_sample
from export.verifying.truth import Truth
from runtime.plans import bundle_plan


@dataclass(frozen=True, kw_only=True)
class VerifySettings:
    """What to verify, against what."""

    bundle: Path
    checkpoint: Path | None = None
    config: Path | None = None
    context: Path | None = None
    reference: Path | None = None
    """An fp32 bundle in place of a checkpoint."""
    image: Path | None = None
    steps: int | None = None
    order: int | None = None
    seed: int = 0
    engines: tuple[str, ...] = ()
    """Names of those to judge; empty: all that are present."""
    threads: int | None = None
    search: bool = True
    """Whether to look into the graphs, and for the reason where one fails."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A report, and the pictures that it speaks of."""

    report: Report
    reference: Array
    """The reference's decoded picture [1,3,8H,8W]."""
    pictures: Mapping[str, Array]
    """Each engine's, by name."""


def judge(settings: VerifySettings, reporter: Reporter) -> Outcome:
    """Verifies a bundle.

    Raises:
        BundleError: a bundle is missing or damaged.
        SettingsError: options contradict each other, the bundle or the machine.
        ExportError: the checkpoint cannot be read.
        ImageError: the picture cannot be read, or is too large.
        NonFiniteError: the reference itself gives NaN or infinity.
    """
    started = time.monotonic()
    reporter.stage("opening the bundle", 0.0)
    bundle = open_bundle(settings.bundle)
    manifest = bundle.manifest
    plan = bundle_plan(manifest, settings.steps, settings.order)
    sample = make_sample(manifest, settings.image, len(plan.steps), settings.seed)
    reference, notes = _reference(bundle, settings)
    judged = candidates(
        bundle,
        canonical=reference.independent or manifest.precision is Precision.FP16,
        wanted=settings.engines,
        threads=settings.threads,
    )
    reporter.stage(f"reference: {reference.description}", 0.02)
    truth = Truth(manifest, plan, sample, reference, settings.search)
    engines: list[EngineReport] = []
    pictures: dict[str, Array] = {}
    for i, candidate in enumerate(judged, start=1):
        reporter.stage(f"{candidate.name}: {candidate.description}", i / (len(judged) + 1))
        judgement = Judgement(bundle, truth, candidate)
        try:
            engines.append(judgement.run())
        except EngineUnavailableError as error:
            notes.append(f"{candidate.name} is not judged: {error}")
            continue
        if judgement.picture is not None:
            pictures[candidate.name] = judgement.picture
    if not engines:
        raise EngineUnavailableError(f"no engine could be judged: {'; '.join(notes)}")
    report = Report(
        bundle=str(settings.bundle),
        precision=str(manifest.precision),
        reference=reference.description,
        limits=reference.limits,
        picture=sample.label,
        latent=sample.latent,
        seed=settings.seed,
        solver=manifest.plan.solver,
        steps=len(plan.steps),
        order=settings.order or manifest.plan.order,
        graphs=tuple(manifest.graphs),
        engines=tuple(engines),
        notes=tuple(notes),
        tools=tools() | {"machine": platform.machine(), "system": platform.system()},
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
    )
    return Outcome(report=report, reference=truth.trajectory.decoded, pictures=pictures)


def _reference(bundle: Bundle, settings: VerifySettings) -> tuple[Reference, list[str]]:
    """The reference, and what is remarkable about it."""
    if settings.checkpoint is not None and settings.reference is not None:
        raise SettingsError("give either --checkpoint FILE or --reference DIR, not both")
    if settings.checkpoint is None and (settings.config or settings.context):
        raise SettingsError("--config and --context belong to a checkpoint; add --checkpoint FILE, or leave them out")
    if settings.reference is not None:
        return other_bundle(open_bundle(settings.reference), bundle, settings.threads), []
    if settings.checkpoint is None:
        return OnnxReference(bundle, own=True, threads=settings.threads), []
    try:
        from export.verifying.torch_reference import open_torch_reference
    except ModuleNotFoundError as error:
        raise PackageMissingError(
            f"--checkpoint needs {error.name}, which is not installed; run `pip install -c constraints.txt -e "
            "'.[export]'`, or give --reference DIR of an fp32 bundle"
        ) from error
    manifest = bundle.manifest
    reference = open_torch_reference(manifest, settings.checkpoint, settings.config, settings.context)
    notes = []
    if _differs(settings.checkpoint, manifest.checkpoint.get("sha256")):
        notes.append(f"the bundle was not exported from {settings.checkpoint.name}, by its sha256")
    context = manifest.checkpoint.get("context")
    if settings.context is not None and _differs(settings.context, context and context.get("sha256")):
        notes.append(f"the bundle's prompt was not taken from {settings.context.name}, by its sha256")
    return reference, notes


def _differs(path: Path, digest: object) -> bool:
    return isinstance(digest, str) and hash_cache.sha256(path) != digest
