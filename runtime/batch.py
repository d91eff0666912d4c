"""Pictures of one size on their way together. In: decoded pictures and a job. Out: their results."""

from __future__ import annotations

import logging

from engines.errors import DossrError
from engines.memory import peak_memory
from engines.profiles import Size
from runtime import tiled
from runtime.clock import Clock
from runtime.fallback import Made
from runtime.images import Picture, finish_picture, result_size
from runtime.kernels import Tensor, named_errors
from runtime.open_way import OpenWay
from runtime.pipeline import Job, Pending, result_pixels, submit
from runtime.result import Report, Result
from runtime.tiled import Landed
from runtime.tiles import Grid

_log = logging.getLogger("dossr")


class Batch:
    """Not for two threads at once."""

    def __init__(self, pictures: tuple[Picture, ...], job: Job, clock: Clock) -> None:
        self.pictures, self.job = pictures, job
        self._clock = clock
        self._submitted: Pending | Landed | DossrError | None = None
        self._replayed = False
        self.shape: tuple[Size, Grid | None] | None = None
        """What the engines' calls worked on, and the tiles, on the last way."""
        for picture in pictures:
            for notice in picture.notices:
                _log.warning("%s", notice)

    @property
    def area(self) -> int:
        """Pixels of all its pictures."""
        return sum(picture.width * picture.height for picture in self.pictures)

    def submit(self, way: OpenWay) -> None:
        """Puts the pictures on that way's device; what goes wrong is raised by `pixels`."""
        try:
            self._submitted = self._put(way)
        except DossrError as error:
            self._submitted = error

    def pixels(self, way: OpenWay) -> tuple[Tensor, ...]:
        """What was submitted; every later call makes the pictures anew on that way.

        Raises:
            GuardError: a stage gave NaN, infinity or values out of range.
            StoppedError: of the job's control.
            DossrError: what else went wrong.
        """
        submitted, self._submitted = self._submitted or self._put(way), None
        if isinstance(submitted, DossrError):
            raise submitted
        self._replayed = submitted.replayed
        with named_errors():
            return submitted.finish(self.job.control)

    def results(self, made: Made[tuple[Tensor, ...]], scale: float) -> list[Result]:
        """The pictures at their final size, in the inputs' kinds."""
        with self._clock.time("finish"), self._clock.span("finish"):
            finished = [
                finish_picture(pixels, picture, result_size(picture, scale))
                for pixels, picture in zip(made.picture, self.pictures, strict=True)
            ]
        reports = self._reports(made)
        return [
            Result(image=done.image, pixels=done.pixels, **vars(report))
            for done, report in zip(finished, reports, strict=True)
        ]

    def report(self, made: Made[tuple[Tensor, ...]]) -> Report:
        """Of the one picture, whose rows are in the job's sink from now on."""
        assert self.job.sink is not None
        for pixels, picture in zip(made.picture, self.pictures, strict=False):  # none of a picture in tiles
            self.job.sink.begin(*result_pixels(picture, self.job), picture.metadata)
            self.job.sink.write(pixels)
        return self._reports(made)[0]

    def _reports(self, made: Made[tuple[Tensor, ...]]) -> list[Report]:
        with named_errors():
            timings, spans, peak = self._clock.timings(), self._clock.spans, peak_memory()
        return [
            Report(
                timings=timings,
                spans=spans,
                seed=self.job.seed,
                peak_memory=peak,
                engine=made.engine,
                guard_hits=made.guard_hits,
                replayed=self._replayed,
                notices=(*picture.notices, *made.notices),
                metadata=picture.metadata,
            )
            for picture in self.pictures
        ]

    def _put(self, way: OpenWay) -> Pending | Landed:
        first, tiling = self.pictures[0], self.job.tiling
        with named_errors():
            if (grid := way.grid(first.width, first.height, tiling)) is not None:
                with self._clock.span("bind"):
                    ws = way.tile_workspace(way.tile_size(grid, tiling), grid)
                self.shape = ws.size, grid
                return tiled.submit(ws, grid, self.pictures, self.job, self._clock)
            with self._clock.span("bind"):
                ws = way.workspace(first.width, first.height, len(self.pictures))
            self.shape = ws.size, None
            return submit(ws, self.pictures, self.job, self._clock)
