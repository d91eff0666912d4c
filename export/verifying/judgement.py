"""One engine, judged. In: the reference's calls and a `Candidate`. Out: an `EngineReport`, and the engine's picture.

Every call is made once with the reference's inputs and once with the engine's own; then each graph is looked into.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from engines.bundle import Bundle
from engines.errors import EngineError, EngineUnavailableError
from export.figures import ADDED_TO, Array, Figures, compare, std
from export.verifying.bisection import FAULT, find_departure, find_fault, suspects
from export.verifying.candidates import Candidate, Inside, Run
from export.verifying.inspection import Departure, Inspection, Known, known
from export.verifying.islands import find_islands
from export.verifying.onnx_graph import OnnxGraph, load_graph
from export.verifying.pictures import PSNR_GATES, likeness
from export.verifying.report import FREE, TEACHER, Comparison, EngineReport, Failure, Within
from export.verifying.truth import Truth
from export.verifying.walk import Call, Trajectory, walk
from export.verifying.weights import compare_weights


class Judgement:
    """Of one engine; `picture` is its decoded picture once it has run."""

    def __init__(self, bundle: Bundle, truth: Truth, candidate: Candidate) -> None:
        self._bundle, self._truth, self._candidate = bundle, truth, candidate
        self._gate = candidate.gate
        self._comparisons: list[Comparison] = []
        self._failed: dict[str, tuple[Call, str, Figures]] = {}
        """Of each graph, the first teacher-forced call that fails."""
        self._within: list[Within] = []
        self._notes: list[str] = []
        self._done = 0
        self.picture: Array | None = None

    def run(self) -> EngineReport:
        """Judges it.

        Raises:
            EngineUnavailableError: the device is not there after all.
        """
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
        called = dict.fromkeys(call.graph for call in truth.calls[: self._done])
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
            notes=tuple(self._notes),
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
        plain = None
        if graph in self._failed:
            call, output, figures = self._failed[graph]
            plain = Failure(graph=graph, step=call.step, timestep=call.timestep, output=output, figures=figures)
        if graph not in self._truth.known:
            return plain
        try:
            inside = self._candidate.inside(graph)
            if inside is None:
                self._notes.append(f"{graph}: this engine cannot be looked into")
                return plain
            return self._searched(plain, self._truth.known[graph], inside)
        except EngineError as error:
            self._notes.append(f"{graph} could not be looked into: {' '.join(str(error).split())}")
            return plain

    def _searched(self, plain: Failure | None, first: Known, inside: Inside) -> Failure | None:
        """The failure with its reason; or one that the outputs do not show."""
        graph = first.call.graph
        canonical = load_graph(self._bundle.path(self._bundle.manifest.graphs[graph].file))
        inspection = Inspection(first.call, inside, canonical, first.places, self._gate)
        samples = inspection.sample(first.samples)
        self._note_within(graph, samples, inside.graph, canonical)
        if plain is None and not suspects(inspection, samples, FAULT * self._gate.deviation):
            return None
        with self._truth.reference.open(graph) as network:
            told = first
            if plain is None:
                departure = find_fault(inspection, samples, network)
                if departure is None:
                    return None
                plain = _hidden(first.call, departure)
            else:
                call = self._failed[graph][0]
                if call is not first.call:
                    told = known(call, network)
                    inspection = Inspection(call, inside, canonical, told.places, self._gate)
                    samples = inspection.sample(told.samples)
                departure = find_departure(inspection, samples, network)
            weights = compare_weights(told, canonical, network, self._bundle.manifest.precision)
        islands = None
        if inside.half is not None and not plain.hidden:
            islands = find_islands(told.call, inside.half, departure.tensor, self._gate, inside.settings)
        return dataclasses.replace(plain, departure=departure, weights=weights, islands=islands)

    def _note_within(self, graph: str, samples: dict[str, Figures], inside: OnnxGraph, canonical: OnnxGraph) -> None:
        worst = max(samples, key=lambda name: samples[name].deviation, default="")
        self._within.append(
            Within(
                graph=graph,
                compared=len(samples),
                of=sum(name in canonical.producers for name in inside.results),
                worst=worst,
                deviation=samples[worst].deviation if worst else 0.0,
            )
        )


def _hidden(call: Call, departure: Departure) -> Failure:
    """A fault that the graph's outputs do not show."""
    return Failure(
        graph=call.graph,
        step=call.step,
        timestep=call.timestep,
        output=departure.tensor,
        figures=departure.figures,
        hidden=True,
    )
