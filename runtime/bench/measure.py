"""Restores pictures and takes their times. In: an Upscaler and a case. Out: `Run`s, and `Measured`, their sum."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.ort_cuda import REGULAR_RUNS
from runtime.bench.photo import picture_file
from runtime.bench.spread import Spread, spread
from runtime.bench.table import steps_label
from runtime.clock import Span
from runtime.result import Result
from runtime.upscaler import Upscaler

ENGINE = ("preprocess", "encode", "condition", "denoise", "decode")
"""Spans that are engine calls; all others are our own work."""
CODECS = ("load", "finish")
"""Spans of files and PIL pictures: apart from the picture's time, like `save`."""
QUICK = 5.0
"""Seconds after which no further picture warms up."""
WARM_UPS = {"cpu": 2, "cuda": REGULAR_RUNS + 2}
"""Runs that warm up, at most; on a GPU until each call's graph is recorded and was replayed once."""
GAPS = "host gaps"
"""What no span covers."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is restored."""

    width: int
    height: int
    """Of the input, in pixels."""
    steps: int | None = None
    """None: the bundle's."""
    order: int | None = None

    @property
    def label(self) -> str:
        """For tables."""
        return f"{self.width}x{self.height}" + ("" if self.steps is None else f", {steps_label(self.steps)}")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One restoration."""

    spans: tuple[Span, ...]
    total: float
    """Seconds of the whole call."""
    save: float
    """Seconds that the result took to become a PNG file, after the call."""

    def seconds(self, name: str) -> float:
        """Of all spans of that name."""
        return sum(span.seconds for span in self.spans if span.name == name)

    @property
    def picture(self) -> float:
        """The call without its codecs: pixels in, pixels out."""
        return self.total - sum(self.seconds(name) for name in CODECS)

    @property
    def gaps(self) -> float:
        """Seconds between the spans."""
        return self.total - sum(span.seconds for span in self.spans)

    @property
    def engine(self) -> float:
        """Seconds in engine calls."""
        return sum(self.seconds(name) for name in ENGINE)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One name's part of a picture."""

    seconds: Spread
    """Of all its spans of one picture together."""
    calls: int
    """Spans of one picture."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A case's figures."""

    case: Case
    picture: Spread
    total: Spread
    stages: Mapping[str, Stage]
    """By the spans' names in their order, then `host gaps`, then `save`."""
    coverage: float
    """The part of the whole call that spans cover, the least of all runs."""
    overhead: float
    """The median part of the picture that is spent outside engine calls."""
    typical: Run
    """The run that is nearest to the median."""
    seconds: tuple[float, ...]
    """Each run's picture, in the order in which they were taken."""


def device_of(description: str) -> str:
    """Where an Upscaler of that description works: cuda or cpu."""
    return "cuda" if "CUDAExecutionProvider" in description or description.startswith("tensorrt") else "cpu"


def warm_up(restore: Callable[[], object], times: int) -> None:
    """Restores that often, and not once more when `QUICK` is over."""
    begin = time.perf_counter()
    for _ in range(times):
        restore()
        if time.perf_counter() - begin >= QUICK:
            break


class Bench:
    """Restores one case over and over."""

    def __init__(self, upscaler: Upscaler, case: Case) -> None:
        self.case = case
        self._upscaler = upscaler
        self._photo = picture_file(case.width, case.height)

    def warm_up(self) -> None:
        """Until the engine is at its speed (`WARM_UPS`), or for `QUICK`."""
        warm_up(self._restore, WARM_UPS[device_of(self._upscaler.description)])

    def run(self) -> Run:
        """Restores once."""
        begin = time.perf_counter()
        result = self._restore()
        total = time.perf_counter() - begin
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            result.save(Path(folder) / "result.png")
            return Run(spans=result.spans, total=total, save=time.perf_counter() - begin)

    def _restore(self) -> Result:
        return self._upscaler(self._photo, steps=self.case.steps, order=self.case.order, tile=None)


def measured(case: Case, rounds: Sequence[Sequence[Run]]) -> Measured:
    """Sums up the runs of a case, round by round."""
    runs = [run for runs in rounds for run in runs]
    picture = spread([[run.picture for run in runs] for runs in rounds])
    names = dict.fromkeys(span.name for run in runs for span in run.spans)
    stages = {
        name: Stage(
            seconds=spread([[run.seconds(name) for run in runs] for runs in rounds]),
            calls=sum(span.name == name for span in runs[0].spans),
        )
        for name in names
    }
    stages[GAPS] = Stage(seconds=spread([[run.gaps for run in runs] for runs in rounds]), calls=1)
    stages["save"] = Stage(seconds=spread([[run.save for run in runs] for runs in rounds]), calls=1)
    return Measured(
        case=case,
        picture=picture,
        total=spread([[run.total for run in runs] for runs in rounds]),
        stages=stages,
        coverage=min(1 - run.gaps / run.total for run in runs),
        overhead=spread([[1 - run.engine / run.picture for run in runs] for runs in rounds]).p50,
        typical=min(runs, key=lambda run: abs(run.picture - picture.p50)),
        seconds=tuple(run.picture for run in runs),
    )
