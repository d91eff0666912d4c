"""A whole restoration, graph by graph. In: a sample, a plan, graphs to call. Out: what every call was given and gave.

It walks as `runtime.Upscaler` does, with the solver in float64: first each graph of a stage is opened, then every step
that needs it is taken, then it is closed, so that one stage's weights are there at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.bundle import Manifest
from export.figures import Array
from export.verifying.candidates import Run
from export.verifying.sample import Sample
from solvers import Plan

Open = Callable[[Sequence[str]], contextlib.AbstractContextManager[Mapping[str, Run]]]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of one graph."""

    graph: str
    step: int | None
    """Of the plan, from 1; None for the graphs around it."""
    timestep: float | None
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def label(self) -> str:
        """For people."""
        return self.graph if self.step is None else f"{self.graph}, step {self.step} (timestep {self.timestep:g})"


OnCall = Callable[[Call, Run], None]
"""Is shown each call when it is done, with the opened graph, which it may call again."""


class Trajectory:
    """The tensors of one restoration, from the picture to the decoded picture."""

    def __init__(self, manifest: Manifest, plan: Plan, sample: Sample) -> None:
        self._plan, self._sample = plan, sample
        self._named: dict[str, Array] = {"image": sample.image, "control_scale": np.ones(1, np.float32)}
        self._separate = manifest.separate_condition
        self._x0_hat: npt.NDArray[np.float64] = np.zeros(0)
        self._x: npt.NDArray[np.float64] = np.zeros(0)
        self._predictions: list[npt.NDArray[np.float64]] = []
        self.latents: list[Array] = []
        """The start's, then one after each step."""

    @property
    def decoded(self) -> Array:
        """The picture [1,3,8H,8W], about [0,1], before any color fix."""
        return self._named["image"]

    def inputs(self, names: Sequence[str], step: int | None) -> dict[str, Array]:
        """What a graph is given at this step."""
        if step is not None:
            self._named["timestep"] = np.array([self._plan.steps[step - 1].timestep], np.float32)
        return {name: self._named[name] for name in names}

    def take(self, graph: str, step: int | None, outputs: Mapping[str, Array]) -> None:
        """Goes on with what a graph gave."""
        self._named |= outputs
        if graph == "preprocess":
            self._named["image"] = outputs["preprocessed"]
        elif graph == "encode":
            if not self._separate:
                self._named["condition"] = outputs["latent_mean"]
            self._start(outputs["latent_mean"], outputs["latent_std"])
        elif step is not None and "output" in outputs:
            self._step(step, outputs["output"])

    def _start(self, mean: Array, std: Array) -> None:
        c_hat, c_z = self._plan.start
        self._x0_hat = np.float64(mean) + np.float64(std) * self._sample.noise[0]
        self._set(c_hat * self._x0_hat + c_z * np.float64(self._sample.noise[1]))

    def _step(self, number: int, output: Array) -> None:
        step = self._plan.steps[number - 1]
        p = step.p_x * self._x + step.p_out * np.float64(output) + step.p_hat * self._x0_hat
        self._predictions = [p, *self._predictions[:2]]
        x = step.c_x * self._x + step.c_hat * self._x0_hat + step.c_z * np.float64(self._sample.noise[number + 1])
        for c, prediction in zip(step.c_p, self._predictions, strict=False):
            x = x + c * prediction
        self._set(x)

    def _set(self, x: npt.NDArray[np.float64]) -> None:
        self._x = x
        self._named["latent"] = x.astype(np.float32)
        self.latents.append(self._named["latent"])


def walk(manifest: Manifest, plan: Plan, sample: Sample, open_graphs: Open, on_call: OnCall) -> Trajectory:
    """Restores the sample.

    Raises:
        EngineError: a graph cannot be opened or run.
    """
    trajectory = Trajectory(manifest, plan, sample)
    with np.errstate(all="ignore"):  # NaN and infinity are counted by those who compare
        for stage, steps in stages(manifest, plan):
            with open_graphs(stage) as runs:
                for step in steps:
                    for graph in stage:
                        names = [spec.name for spec in manifest.graphs[graph].spec.inputs]
                        inputs = trajectory.inputs(names, step)
                        outputs = runs[graph](inputs)
                        trajectory.take(graph, step, outputs)
                        timestep = None if step is None else plan.steps[step - 1].timestep
                        call = Call(graph=graph, step=step, timestep=timestep, inputs=inputs, outputs=outputs)
                        on_call(call, runs[graph])
    return trajectory


def stages(manifest: Manifest, plan: Plan) -> list[tuple[tuple[str, ...], tuple[Any, ...]]]:
    """Graphs that are open together, and the steps at which they are called."""
    once = (None,)
    steps = tuple(range(1, len(plan.steps) + 1))
    network = ("denoise",) if "denoise" in manifest.graphs else ("controlnet", "unet")
    found: list[tuple[tuple[str, ...], tuple[Any, ...]]] = [(("preprocess",), once), (("encode",), once)]
    if manifest.separate_condition:
        found.append((("condition",), once))
    return [*found, (network, steps), (("decode",), once)]
