"""What `dossr verify` found. In: figures. Out: a `Report`, its JSON, and the summary for the bundle's manifest."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from export.figures import Figures, Gate
from export.verifying.inspection import Departure
from export.verifying.islands import IslandReport
from export.verifying.pictures import Likeness
from export.verifying.weights import WeightReport

SCHEMA = 1
TEACHER, FREE = "teacher-forced", "free-running"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One output of one call of one engine."""

    mode: str
    """`TEACHER`: the engine was given the reference's inputs. `FREE`: its own, from the picture on."""
    graph: str
    step: int | None
    timestep: float | None
    output: str
    """The graph's output; "x" for the latent after a step."""
    figures: Figures
    passed: bool | None
    """None where there is no gate: errors of a free run add up."""


@dataclass(frozen=True, kw_only=True)
class Within:
    """The intermediate results of one graph's first call, by samples of a few thousand elements."""

    graph: str
    compared: int
    """Tensors that engine and reference both have."""
    of: int
    """Tensors of the canonical graph that the engine has."""
    worst: str
    """The one that deviates most."""
    deviation: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A graph that an engine gets wrong, and why."""

    graph: str
    step: int | None
    timestep: float | None
    output: str
    figures: Figures
    hidden: bool = False
    """Whether the outputs pass, and only an intermediate result shows that something is wrong."""
    departure: Departure | None = None
    """None where no search was asked for, or the engine cannot be looked into."""
    weights: WeightReport | None = None
    islands: IslandReport | None = None


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """One engine."""

    name: str
    description: str
    gate: Gate
    """Of teacher-forced outputs."""
    comparisons: tuple[Comparison, ...] = ()
    within: tuple[Within, ...] = ()
    """Empty where no search was asked for, or the engine cannot be looked into."""
    picture: Likeness | None = None
    """The decoded picture of the free run, before the color fix."""
    picture_gate: float = 0.0
    """Least PSNR in dB."""
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    """Graphs that could not be looked into, and why."""
    error: str = ""
    """The engine's own words where it could not be run."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether everything that has a gate is within it."""
        good = all(one.passed is not False for one in self.comparisons) and not self.failures and not self.error
        return good and self.picture is not None and self.picture.psnr >= self.picture_gate

    def worst(self, graph: str) -> Figures | None:
        """Of a graph's teacher-forced outputs over all calls, by deviation; None where it was not run."""
        found = [one.figures for one in self.comparisons if one.graph == graph and one.mode == TEACHER]
        return max(found, key=lambda figures: figures.deviation, default=None)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything of one verification."""

    bundle: str
    precision: str
    reference: str
    limits: str
    """What the reference cannot show."""
    picture: str
    latent: tuple[int, int]
    seed: int
    solver: str
    steps: int
    order: int
    graphs: tuple[str, ...]
    engines: tuple[EngineReport, ...]
    notes: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    when: str = ""
    """UTC, ISO 8601."""
    seconds: float = 0.0
    schema: int = SCHEMA

    @property
    def passed(self) -> bool:
        """Whether every engine passed."""
        return all(engine.passed for engine in self.engines)

    def to_json(self) -> str:
        """The whole report; numbers that are not finite are null."""
        plain = dataclasses.asdict(self)
        for found, engine in zip(plain["engines"], self.engines, strict=True):
            found["passed"] = engine.passed
        plain["passed"] = self.passed
        return json.dumps(_finite(plain), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def summary(self) -> dict[str, Any]:
        """What the manifest keeps of it: nothing that tells of this machine's folders."""
        engines = {}
        for engine in self.engines:
            worst = {graph: engine.worst(graph) for graph in self.graphs}
            engines[engine.name] = {
                "description": engine.description,
                "passed": engine.passed,
                "graphs": {
                    graph: {
                        "deviation": _short(f.deviation),
                        "cosine": _short(f.cosine),
                        "difference": _short(f.max_abs),
                    }
                    for graph, f in worst.items()
                    if f is not None
                },
                "psnr": None if engine.picture is None else _short(engine.picture.psnr),
                "ssim": None if engine.picture is None else _short(engine.picture.ssim),
                "first_departures": [
                    {"graph": one.graph, "tensor": one.departure.tensor, "module": one.departure.module}
                    for one in engine.failures
                    if one.departure is not None
                ],
                "ran": not engine.error,
            }
        found = {
            "when": self.when,
            "passed": self.passed,
            "reference": self.reference,
            "limits": self.limits,
            "picture": self.picture,
            "latent": list(self.latent),
            "seed": self.seed,
            "plan": {"solver": self.solver, "steps": self.steps, "order": self.order},
            "engines": engines,
            "tools": dict(self.tools),
        }
        plain: dict[str, Any] = _finite(found)
        return plain


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _finite(value: Any) -> Any:
    """JSON's form: no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_finite(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
