"""The verification itself. In: `VerifySettings`. Out: a `Report`, and the decoded pictures it speaks of.

The reference restores the sample first, and every call of it is kept. Each engine then walks the same way: every call
once with the reference's inputs, once with its own. Where a graph fails, the search for the reason follows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import solvers
from engines import hash_cache
from engines.bundle import Bundle, Manifest, Precision, open_bundle
from engines.errors import (
    EngineError,
    EngineUnavailableError,
    NonFiniteError,
    PackageMissingError,
    SettingsError,
)
from export.figures import ADDED_TO, Array, Figures, compare, std
from export.progress import Reporter
from export.settings import tools
from export.verifying.bisection import FAULT, find_departure, find_fault, suspects
from export.verifying.candidates import Candidate, Inside, Run, candidates
from export.verifying.inspection import Inspection, Known, known
from export.verifying.islands import find_islands
from export.verifying.onnx_graph import load_graph
from export.verifying.pictures import PSNR_GATES, likeness
from export.verifying.reference import Network, OnnxReference, Reference, other_bundle
from export.verifying.report import FREE, TEACHER, Comparison, EngineReport, Failure, Report, Within
from export.verifying.sample import Sample, make_sample
from export.verifying.walk import Call, Trajectory, walk
from export.verifying.weights import compare_weights


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
    """Whether to look for the reason where a graph fails."""


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
    plan = _plan(manifest, settings)
    sample = make_sample(manifest, settings.image, len(plan.steps), settings.seed)
    reference, notes = _reference(bundle, settings)
    own = isinstance(reference, OnnxReference) and not reference.exact
    judged = candidates(
        bundle,
        canonical=not own or manifest.precision is Precision.FP16,
        wanted=settings.engines,
        threads=settings.threads,
    )
    reporter.stage(f"reference: {reference.description}", 0.02)
    truth = _Truth(manifest, plan, sample, reference, settings.search)
    engines, pictures = [], {}
    for i, candidate in enumerate(judged, start=1):
        reporter.stage(f"{candidate.name}: {candidate.description}", i / (len(judged) + 1))
        judgement = _Judgement(bundle, truth, candidate)
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


class _Truth:
    """The reference's restoration: every call, in order."""

    def __init__(
        self, manifest: Manifest, plan: solvers.Plan, sample: Sample, reference: Reference, search: bool
    ) -> None:
        self.plan, self.sample, self.reference = plan, sample, reference
        self.calls: list[Call] = []
        self.known: dict[str, Known] = {}
        """Of each graph's first call; empty without `search`."""
        self._search = search
        self._networks: dict[str, Network] = {}
        self.trajectory = walk(manifest, plan, sample, self._open, self._keep)

    @contextlib.contextmanager
    def _open(self, graphs: Sequence[str]) -> Iterator[Mapping[str, Run]]:
        with contextlib.ExitStack() as stack:
            self._networks = {graph: stack.enter_context(self.reference.open(graph)) for graph in graphs}
            yield {graph: network.run for graph, network in self._networks.items()}
            self._networks = {}

    def _keep(self, call: Call, _run: Run) -> None:
        for name, values in call.outputs.items():
            if not np.isfinite(values).all():
                raise NonFiniteError(
                    f"the reference itself gives NaN or infinity in {name} of {call.label}, expected finite numbers; "
                    "check the checkpoint, or take another --image"
                )
        self.calls.append(call)
        if self._search and call.graph not in self.known:
            self.known[call.graph] = known(call, self._networks[call.graph])


class _Judgement:
    """One engine's."""

    def __init__(self, bundle: Bundle, truth: _Truth, candidate: Candidate) -> None:
        self._bundle, self._truth, self._candidate = bundle, truth, candidate
        self._gate = candidate.gate
        self._comparisons: list[Comparison] = []
        self._failed: dict[str, tuple[Call, str, Figures]] = {}
        """Of each graph, the first teacher-forced call that fails."""
        self._within: list[Within] = []
        self._done = 0
        self.picture: Array | None = None

    def run(self) -> EngineReport:
        started = time.monotonic()
        manifest, truth = self._bundle.manifest, self._truth
        error, likely = "", None
        try:
            mine = walk(manifest, truth.plan, truth.sample, self._candidate.open, self._take)
            self._compare_latents(mine)
            self.picture = mine.decoded
            likely = likeness(mine.decoded, truth.trajectory.decoded)
        except EngineUnavailableError:
            raise
        except EngineError as failed:
            error = " ".join(str(failed).split())
        called = [graph for graph in manifest.graphs if any(one.graph == graph for one in self._comparisons)]
        failures = [failure for graph in called if (failure := self._failure(graph)) is not None]
        return EngineReport(
            name=self._candidate.name,
            description=self._candidate.description,
            comparisons=tuple(self._comparisons),
            picture=likely,
            gate=self._gate,
            picture_gate=PSNR_GATES[manifest.precision],
            failures=tuple(failures),
            within=tuple(self._within),
            error=error,
            seconds=round(time.monotonic() - started, 1),
        )

    def _take(self, free: Call, run: Run) -> None:
        """A call of the free run; the same graph is called with the reference's inputs too."""
        truth = self._truth.calls[self._done]
        self._done += 1
        same = all(np.array_equal(free.inputs[name], truth.inputs[name]) for name in truth.inputs)
        forced = free.outputs if same else run(truth.inputs)
        for name, reference in truth.outputs.items():
            figures = self._figures(forced[name], reference, name, truth)
            passed = figures.within(self._gate)
            self._note(TEACHER, truth, name, figures, passed=passed)
            self._note(FREE, truth, name, self._figures(free.outputs[name], reference, name, truth), passed=None)
            if not passed and truth.graph not in self._failed:
                self._failed[truth.graph] = truth, name, figures

    def _figures(self, result: Array, reference: Array, name: str, call: Call) -> Figures:
        beside = call.outputs.get(ADDED_TO.get(name, ""))
        return compare(result, reference, spread=0.0 if beside is None else std(beside))

    def _note(self, mode: str, call: Call, output: str, figures: Figures, *, passed: bool | None) -> None:
        self._comparisons.append(
            Comparison(
                mode=mode,
                graph=call.graph,
                step=call.step,
                timestep=call.timestep,
                output=output,
                figures=figures,
                passed=passed,
            )
        )

    def _compare_latents(self, mine: Trajectory) -> None:
        """The solver's state after each step of the free run; step 0 is the start."""
        for step, (ours, theirs) in enumerate(zip(mine.latents, self._truth.trajectory.latents, strict=True)):
            self._comparisons.append(
                Comparison(
                    mode=FREE,
                    graph="solver",
                    step=step,
                    timestep=None,
                    output="x",
                    figures=compare(ours, theirs),
                    passed=None,
                )
            )

    def _failure(self, graph: str) -> Failure | None:
        """What is wrong with a graph, and why; None where nothing is."""
        if graph in self._failed:
            call, output, figures = self._failed[graph]
            plain = Failure(graph=graph, step=call.step, timestep=call.timestep, output=output, figures=figures)
        else:
            plain = None
        first = self._truth.known.get(graph)
        if first is None:
            return plain and dataclasses.replace(plain, note="no search was asked for")
        try:
            inside = self._candidate.inside(graph)
            if inside is None:
                return plain and dataclasses.replace(plain, note=f"{self._candidate.name} cannot be looked into")
            return self._searched(plain, first, inside)
        except EngineError as error:
            note = f"the search failed: {' '.join(str(error).split())}"
            return plain and dataclasses.replace(plain, note=note)

    def _searched(self, plain: Failure | None, first: Known, inside: Inside) -> Failure | None:
        """The failure with its reason; or one that the outputs do not show."""
        graph, precision = first.call.graph, self._bundle.manifest.precision
        canonical = load_graph(self._bundle.path(self._bundle.manifest.graphs[graph].file))
        inspection = Inspection(first.call, inside, canonical, first.places, self._gate)
        samples = inspection.sample(first.samples)
        worst = max(samples, key=lambda name: samples[name].deviation, default="")
        self._within.append(
            Within(
                graph=graph,
                compared=len(samples),
                of=sum(name in canonical.producers for name in inside.graph.results),
                worst=worst,
                deviation=samples[worst].deviation if worst else 0.0,
            )
        )
        if plain is None and not suspects(inspection, samples, FAULT * self._gate.deviation):
            return None
        with self._truth.reference.open(graph) as network:
            if plain is None:
                call = first.call
                departure = find_fault(inspection, samples, network)
                if departure is None:
                    return None
                plain = Failure(
                    graph=graph,
                    step=call.step,
                    timestep=call.timestep,
                    output=departure.tensor,
                    figures=departure.figures,
                    hidden=True,
                )
            else:
                call = self._failed[graph][0]
                if call is not first.call:
                    first = known(call, network)
                    inspection = Inspection(call, inside, canonical, first.places, self._gate)
                    samples = inspection.sample(first.samples)
                departure = find_departure(inspection, samples, network)
            weights = compare_weights(first, canonical, network, precision)
        islands = None
        if inside.half is not None and not plain.hidden:
            islands = find_islands(call, inside.half, departure.tensor, self._gate, inside.settings)
        return dataclasses.replace(plain, departure=departure, weights=weights, islands=islands)


def _plan(manifest: Manifest, settings: VerifySettings) -> solvers.Plan:
    schedule, default = manifest.schedule, manifest.plan
    try:
        return solvers.plan(
            default.solver,
            steps=default.steps if settings.steps is None else settings.steps,
            order=default.order if settings.order is None else settings.order,
            prediction=manifest.prediction,
            t1=schedule.t1,
            shifting=schedule.shifting,
            train_timesteps=schedule.train_timesteps,
            beta_start=schedule.beta_start,
            beta_end=schedule.beta_end,
        )
    except solvers.PlanError as error:
        raise SettingsError(str(error)) from error


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
