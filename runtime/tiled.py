"""A picture of any size through a workspace of one tile's size. In: a decoded picture and its tiles. Out: its rows.

All that the solver works on is one canvas for the whole picture, of the latent's size; only what goes through an engine
is cut. At each step the network's output for every tile is blended on a canvas. The data prediction is linear in the
latent, the output and x0_hat, pixel by pixel, and windows add up to one: so blending outputs is blending data
predictions, and `runtime.sampler` steps the canvas as it steps any latent, with the noise that the whole picture has.

Memory that grows with the picture: its pixels, eight canvases [1, 4, H, W], and a row of tiles of the result in float.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import sqrt

from engines.graphs import UPSCALE, VAE_FACTOR
from runtime.canvases import Carry, make_canvases, make_windows
from runtime.clock import Clock
from runtime.control import Control
from runtime.device import Kernels
from runtime.images import Picture
from runtime.kernels import Tensor, tile_moments
from runtime.noise import noise_source
from runtime.pipeline import Job, result_pixels
from runtime.rows import PixelRows, RowSink
from runtime.sampler import sample, start_latent
from runtime.tiles import Grid, batches
from runtime.workspace import Workspace

_log = logging.getLogger("dossr")
_LOW = VAE_FACTOR // UPSCALE
_EPSILON = 1e-5
"""Added to variances, as `kernels.adain_fix` does."""
_Places = Sequence[tuple[int, int]]


class Landed:
    """Pictures that are done; as `runtime.pipeline.Pending`."""

    replayed = False

    def __init__(self, pixels: tuple[Tensor, ...]) -> None:
        self._pixels = pixels

    def finish(self, control: Control) -> tuple[Tensor, ...]:
        """See `runtime.pipeline.Pending.finish`; none where their rows went to a sink."""
        control.report("finish")
        return self._pixels


def submit(ws: Workspace, grid: Grid, pictures: Sequence[Picture], job: Job, clock: Clock) -> Landed:
    """Restores pictures of one size, one after the other; they are done when this returns.

    Args:
        ws: of a batch of tiles.
        grid: the tiles.
        pictures: to restore.
        job: how.
        clock: gets spans and stages.

    Raises:
        EngineError: an engine failed.
        GuardError: a stage gave NaN, infinity or values out of range.
        SettingsError: the caller's noise does not fit.
        StoppedError: of the job's control.
    """
    if job.color_fix == "none":
        _log.warning("the picture is made in tiles without a color fix, so tiles may be tinted; use the wavelet one")
    if job.trace is not None:
        _log.warning("the picture is made in tiles, so the trace has no preprocessed, decoded and colorfixed")
    made = []
    for picture in pictures:
        job.control.check()
        kernels = ws.device.kernels(job.plan, noise_source(job.noise, job.seed))
        try:
            ws.device.time(clock)
            kept = PixelRows()
            sink = job.sink or kept
            sink.begin(*result_pixels(picture, job), picture.metadata)
            _Restoration(ws, grid, picture, kernels, job, clock).run(sink)
            clock.settle()
            made += [] if job.sink else [kept.pixels]
        finally:
            clock.follow_host()
            kernels.abandon()  # and waits: the canvases are freed next
    return Landed(tuple(made))


class _Restoration:
    def __init__(self, ws: Workspace, grid: Grid, picture: Picture, kernels: Kernels, job: Job, clock: Clock) -> None:
        self._ws, self._grid, self._picture = ws, grid, picture
        self._kernels, self._job, self._clock = kernels, job, clock
        with clock.span("bind"):
            self._canvases = make_canvases(ws, grid)
            self._latent_windows = make_windows(ws.device, grid, 1)
            self._pixel_windows = make_windows(ws.device, grid, VAE_FACTOR)
        with clock.span("convert"):
            self._pixels = kernels.hold(picture.pixels)
        self._step = 0
        """Steps that are done."""
        self._style = Tensor((3, 2), "float64")
        """Sums of what AdaIN takes over: see `kernels.tile_moments`."""

    def run(self, sink: RowSink) -> None:
        job, kernels, clock, canvases = self._job, self._kernels, self._clock, self._canvases
        state = canvases.state

        def record(name: str, tensor: Tensor) -> None:
            if job.trace is not None:
                job.trace.record(name, kernels.read(tensor))

        self._encode()
        for name in ("latent_mean", "latent_std", "condition"):
            record(name, getattr(canvases, name.removeprefix("latent_")))
        with clock.time("denoise"):
            start_latent(kernels, state, canvases.mean, canvases.std, record, clock)
            sample(job.plan, kernels, state, (self._denoise,), record, self._begin_step, clock)
        self._decode(sink)

    def _begin_step(self, done: int) -> None:
        self._step = done

    def _encode(self) -> None:
        ws, canvases = self._ws, self._canvases
        blended = [(ws.latent_mean, canvases.mean), (ws.latent_std, canvases.std)]
        if ws.condition is not ws.latent_mean:
            blended.append((ws.condition, canvases.condition))
        for places in self._batches(self._grid.places, "encode"):
            with self._clock.time("preprocess"):
                self._preprocess(places)
            self._job.control.check()
            with self._clock.time("encode"):
                with self._clock.span("encode"):
                    ws.run("encode")
                with self._clock.span("condition"):
                    ws.run("condition")
                for tile, canvas in blended:
                    self._blend(tile, canvas, places)
            if self._job.color_fix == "adain":
                with self._clock.time("color_fix"):
                    self._add_moments(ws.preprocessed, places, self._style)

    def _denoise(self) -> None:
        """What `denoise` is for a whole picture: reads the latent's canvas, writes the output's."""
        ws, canvases = self._ws, self._canvases
        self._kernels.zero(canvases.state.output)
        for places in self._batches(self._grid.places, "denoise"):
            self._take(canvases.state.latent, ws.state.latent, places)
            self._take(canvases.condition, ws.condition, places)
            for call in ws.denoise:
                self._job.control.check()
                call()
            self._blend(ws.state.output, canvases.state.output, places)

    def _decode(self, sink: RowSink) -> None:
        kernels, grid, job = self._kernels, self._grid, self._job
        height, width = VAE_FACTOR * grid.y.tile, VAE_FACTOR * grid.x.size
        (whole, *row_shape), dtype = result_pixels(self._picture, job)
        rows = Tensor((0,))
        with self._clock.time("color_fix"):
            moves = self._moves() if job.color_fix == "adain" else None
        strip = self._ws.device.tensor((1, 3, height, width))
        carry = Carry(self._ws.device, grid)
        tops = [VAE_FACTOR * corner for corner in (*grid.y.corners, grid.y.corners[-1] + grid.y.tile)]
        for row, (top, below) in enumerate(pairwise(tops)):
            for places in self._batches([place for place in grid.places if place[0] == row], "decode"):
                with self._clock.time("decode"):
                    self._decode_tiles(places)
                with self._clock.time("color_fix"):
                    fixed = self._fixed(places, moves)
                for item, (y, x) in enumerate(places):
                    windows = self._pixel_windows[0][y], self._pixel_windows[1][x]
                    kernels.blend(fixed, strip, windows, 0, VAE_FACTOR * grid.x.corners[x], item)
            with self._clock.time("finish"), self._clock.span("convert"):
                shape = (min(below, whole) - top, *row_shape)
                if rows.shape != shape:
                    rows = Tensor((0,))  # the old ones are freed before
                    rows = Tensor(shape, dtype)
                kernels.rows(strip, rows)
                sink.write(rows)
                if below - top < height:
                    carry.shift(strip, below - top, kernels)

    def _decode_tiles(self, places: _Places) -> None:
        self._take(self._canvases.state.latent, self._ws.state.latent, places)
        with self._clock.span("decode"):
            self._ws.run("decode")

    def _fixed(self, places: _Places, moves: Tensor | None) -> Tensor:
        """The decoded tiles, colors fixed. The wavelet fix looks aside by less than the margin of a window."""
        ws, job = self._ws, self._job
        if job.color_fix == "none":
            return ws.decoded
        if moves is not None:
            with self._clock.span("color_fix"):
                self._kernels.match(ws.decoded, moves)
            return ws.decoded
        job.control.check()
        self._preprocess(places)  # again, rather than keeping a picture of the result's size
        with self._clock.span("color_fix"):
            return self._kernels.color_fix(job.color_fix, ws.decoded, ws.preprocessed)

    def _moves(self) -> Tensor:
        """What AdaIN does to each plane: decodes every tile for its statistics alone."""
        content = Tensor((3, 2), "float64")
        for places in self._batches(self._grid.places, "decode"):
            self._decode_tiles(places)
            self._add_moments(self._ws.decoded, places, content)
        H, W = self._grid.canvas
        count = VAE_FACTOR * VAE_FACTOR * H * W
        values: list[float] = []
        for channel in range(3):
            mean, std = _moments(content.slice(channel), count)
            to_mean, to_std = _moments(self._style.slice(channel), count)
            values += [mean, to_std / std, to_mean]
        return self._ws.device.vector(values, (3, 3))

    def _preprocess(self, places: _Places) -> None:
        with self._clock.span("convert"):
            for item, (y, x) in enumerate(places):
                at = _LOW * self._grid.y.corners[y], _LOW * self._grid.x.corners[x]
                self._kernels.crop(self._pixels, *at, self._ws.low_res, item)
        with self._clock.span("preprocess"):
            self._ws.run("preprocess")

    def _take(self, canvas: Tensor, tile: Tensor, places: _Places) -> None:
        for item, (y, x) in enumerate(places):
            self._kernels.take(canvas, tile, self._grid.y.corners[y], self._grid.x.corners[x], item)

    def _blend(self, tile: Tensor, canvas: Tensor, places: _Places) -> None:
        for item, (y, x) in enumerate(places):
            windows = self._latent_windows[0][y], self._latent_windows[1][x]
            self._kernels.blend(tile, canvas, windows, self._grid.y.corners[y], self._grid.x.corners[x], item)

    def _add_moments(self, planes: Tensor, places: _Places, sums: Tensor) -> None:
        here = self._kernels.read(planes)
        for item, (y, x) in enumerate(places):
            window_y, window_x = self._pixel_windows[0][y], self._pixel_windows[1][x]
            tile_moments(here, sums, self._kernels.read(window_y), self._kernels.read(window_x), item)

    def _batches(self, places: _Places, stage: str) -> Iterator[_Places]:
        """The tiles that go together; tells the control before each."""
        steps, tiles = len(self._job.plan.steps), self._grid.count
        for together in batches(places, self._ws.low_res.shape[0]):
            y, x = together[0]
            done = y * len(self._grid.x.corners) + x
            self._kernels.keep_pace(self._job.control.check)
            self._job.control.report(stage, step=self._step, steps=steps, tile=done, tiles=tiles)
            yield together


def _moments(sums: Tensor, count: int) -> tuple[float, float]:
    """Mean and standard deviation from the sums of a plane, as `kernels.adain_fix` takes them."""
    total, squares = memoryview(sums).tolist()
    mean = total / count
    return mean, sqrt(max(0.0, squares - total * mean) / (count - 1) + _EPSILON)
