"""The Upscaler: a bundle opened on an engine. In: an image. Out: a `Result`.

Longer than others by the argument lists of its public methods and their guarantees.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from types import TracebackType
from typing import Any

import solvers
from engines.backends import check_engine, choose_backend
from engines.base import EngineSettings
from engines.bundle import Manifest, open_bundle
from engines.errors import DossrError, EngineError, SettingsError, StoppedError
from engines.graphs import UPSCALE, VAE_FACTOR
from runtime.arguments import memory_budget, option_pairs, picture_sides, thread_count
from runtime.batch import Batch
from runtime.clock import Clock
from runtime.color_fix import color_fix_named
from runtime.control import Control, OnProgress, chosen_control
from runtime.default_bundle import default_bundle
from runtime.fallback import AUTO, Made, Ways
from runtime.file_rows import FileRows
from runtime.images import (
    Picture,
    check_free,
    check_output,
    check_scale,
    load_picture,
    result_depth,
    result_size,
)
from runtime.kernels import Tensor
from runtime.pace import Pace, Work
from runtime.pipeline import Job
from runtime.plans import chosen_plan
from runtime.result import Report, Result
from runtime.rows import RowSink
from runtime.run_plan import CallPace, RunPlan, engine_calls, plan_run
from runtime.stream import PictureStream
from runtime.tiles import Tiling
from runtime.trace import Trace
from runtime.workspace import latent_size_needed

_SLICE = 0.05
"""Seconds after which a call that waits for its turn looks whether it is to stop."""
_log = logging.getLogger("dossr")


class Upscaler:
    """Opens a bundle once and restores pictures with it.

    Thread-safe: calls from several threads run one after the other. Use it as a context manager, or call `close`.

    Args:
        bundle: the folder that `python -m export.build` wrote; None: the one that the environment variable DOSSR_BUNDLE
            names, else the demo model that ships.
        engine: "auto", "onnxruntime" or "tensorrt".
        device: "auto", "cpu", "cuda", "cuda:N", or another device of the engine.
        threads: CPU threads of an engine call; None: as many as the process may use.
        provider_options: a mapping, or (key, value) pairs, for the engine's library.
        max_memory: what this process may hold, in bytes or like "9GiB": engines are opened when they are needed and
            closed when the budget asks, by estimates for the full-size model on a CPU. None: every engine is opened
            now and stays open.
        cuda_graphs: whether pictures whose engines allow it (TensorRT's) are recorded once for each kind and then put
            on the GPU by one launch (`runtime.recording`); not with `max_memory`.
        rebuild_engines: whether TensorRT engines that the bundle lacks, or has for another GPU or version alone, are
            built now, into the bundle, of one static shape or of its last engines' (minutes).
        fallback: what makes a picture again, from its beginning and of the same noise, when a stage gave NaN, infinity
            or values out of range (`runtime.guard`). "auto": the CPU in float32, where that is another engine than the
            asked one; a path: besides, that bundle of the same checkpoint (of --precision fp32, say); "none": nothing,
            such a picture is an error. Opened when it is needed, within `max_memory`.

    Raises:
        BundleError: the bundle, or the one that `fallback` names, is missing, damaged or too new.
        EngineError: the engine is missing or refuses a graph.
        SettingsError: an unknown engine, or a fallback that cannot be one.
        MemoryBudgetError: an engine alone takes more than `max_memory`.
    """

    def __init__(
        self,
        bundle: str | Path | None = None,
        *,
        engine: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        provider_options: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        max_memory: int | str | None = None,
        cuda_graphs: bool = True,
        rebuild_engines: bool = False,
        fallback: str | Path = AUTO,
    ) -> None:
        bundle = default_bundle() if bundle is None else bundle
        if not isinstance(bundle, str | os.PathLike):
            raise SettingsError(f"bundle must be the path of a folder, not {bundle!r}")
        if not isinstance(device, str):
            raise SettingsError(f'device must be a name like "auto", "cpu" or "cuda:0", not {device!r}')
        budget = memory_budget(max_memory)
        check_engine(engine)
        settings = EngineSettings(
            device=device,
            threads=thread_count(threads),
            provider_options=option_pairs(provider_options),
            rebuild=bool(rebuild_engines),
        )
        opened = open_bundle(bundle)
        backend = choose_backend(engine, opened, settings)
        self._lock = threading.Lock()
        self._pace = Pace()
        self._calls = CallPace()
        self._manifest = opened.manifest
        self._closed = False
        self._ways = Ways(opened, backend, settings, budget, fallback, record=bool(cuda_graphs))

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._manifest

    @property
    def description(self) -> str:
        """The asked engine, where it runs and the bundle, for people."""
        return "closed" if self._closed else self._ways.asked.description

    @property
    def guard_hits(self) -> dict[str, int]:
        """By engine, how many pictures had wrong values there so far."""
        return dict(self._ways.guard_hits)

    def __call__(
        self,
        image: object,
        *,
        scale: float = 4,
        steps: int | None = None,
        order: int | None = None,
        seed: int = 42,
        noise: str | Sequence[Any] = "philox",
        color_fix: str = "wavelet",
        bit_depth: int | None = None,
        plan: solvers.Plan | None = None,
        force_plan: bool = False,
        tile: int | str | None = AUTO,
        tile_overlap: int | None = None,
        tile_batch: int | None = None,
        trace: Trace | None = None,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        control: Control | None = None,
    ) -> Result:
        """Restores and enlarges one picture of any size from 1x1.

        Args:
            image: a path, the bytes of an image file, a PIL image, or a buffer or DLPack object, uint8 or uint16
                [h, w, 3 or 4].
            scale: of the result; other than 4 by a final resize. Above 0, at most 16.
            steps: network calls; None: the bundle's default (5 for the multi-step model).
            order: of the solver, 1 to 3; None: the bundle's default (3).
            seed: of the noise, 0..2**64-1.
            noise: "philox", "torch-cpu", or a list of float32 [1, 4, H, W] tensors: posterior, start, one a step.
            color_fix: "wavelet", "adain" or "none".
            bit_depth: of the result, 8 or 16; None: the input's.
            plan: a plan of your own instead of `steps` and `order`.
            force_plan: take the plan even if its t1 or prediction type is not the one that the bundle was trained with.
            tile, tile_overlap, tile_batch: how large pictures are cut; see `runtime.tiles.Tiling`.
            trace: collects every intermediate.
            on_progress, timeout: as of `Control`; begins anew where the picture is made again.
            control: instead of these two, to cancel the call from another thread.

        Returns:
            The picture, timings, the seed, the peak memory, and notices, which are also logged as warnings ("dossr").

        Raises:
            SettingsError: a setting is outside its range.
            ImageError: the picture cannot be read, or is too large for the bundle.
            MemoryBudgetError: at this size a graph takes more than `max_memory`.
            EngineError: the engine failed, or the Upscaler is closed.
            GuardError: NaN, infinity or values out of range, on every engine that was allowed.
            CancelledError, TimeLimitError: by `control` or `timeout`. The Upscaler stays usable.
        """
        clock = Clock()
        begun = chosen_control(control, on_progress, timeout).begin()
        check_scale(scale)
        with clock.span("plan"):
            job = Job(
                plan=chosen_plan(self._manifest, steps, order, plan, force_plan),
                seed=seed,
                noise=noise,
                color_fix=color_fix,
                bit_depth=bit_depth,
                tiling=Tiling(tile=tile, overlap=tile_overlap, batch=tile_batch),
                trace=trace,
                control=begun,
            )
        return self._finished(self._loaded(image, job, clock), scale)[0]

    def rows(
        self,
        image: object,
        sink: RowSink,
        *,
        steps: int | None = None,
        order: int | None = None,
        seed: int = 42,
        noise: str | Sequence[Any] = "philox",
        color_fix: str = "wavelet",
        bit_depth: int | None = None,
        tile: int | str | None = AUTO,
        tile_overlap: int | None = None,
        tile_batch: int | None = None,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        control: Control | None = None,
    ) -> Report:
        """Restores one picture and hands it on row by row, without keeping it: the memory of a picture in tiles then
        grows only by its input, eight latent canvases and one row of tiles of the result.

        Args:
            image: as of `__call__`; alpha is left out, and the result is 4 times as large.
            sink: takes the rows; a whole picture comes in one piece. Where rows were wrong, it begins again.
            steps, order, seed, noise, color_fix, bit_depth, tile, tile_overlap, tile_batch, on_progress, timeout,
                control: as of `__call__`.

        Raises:
            DossrError: as `__call__`, and what the sink raises.
        """
        clock = Clock()
        begun = chosen_control(control, on_progress, timeout).begin()
        job = Job(
            plan=chosen_plan(self._manifest, steps, order, None, False),
            seed=seed,
            noise=noise,
            color_fix=color_fix,
            bit_depth=bit_depth,
            tiling=Tiling(tile=tile, overlap=tile_overlap, batch=tile_batch),
            sink=sink,
            control=begun,
        )
        return self._handed_on(self._loaded(image, job, clock))

    def write(
        self,
        image: object,
        path: str | Path,
        *,
        scale: float = 4,
        quality: int | None = None,
        bit_depth: int | None = None,
        overwrite: bool = False,
        steps: int | None = None,
        order: int | None = None,
        seed: int = 42,
        noise: str | Sequence[Any] = "philox",
        color_fix: str = "wavelet",
        tile: int | str | None = AUTO,
        tile_overlap: int | None = None,
        tile_batch: int | None = None,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        control: Control | None = None,
    ) -> Report:
        """Restores one picture into a file, whole or not at all; one in tiles without holding the result (PNG, TIFF and
        JPEG; other formats are collected first).

        Args:
            image, scale, steps, order, seed, noise, color_fix, tile, tile_overlap, tile_batch, on_progress, timeout,
                control: as of `__call__`.
            path, quality, bit_depth, overwrite: as of `Result.save`.

        Raises:
            DossrError: as `__call__` and `Result.save`.
        """
        check_scale(scale)
        picture = load_picture(image)
        path = Path(path)
        check_output(
            path,
            size=result_size(picture, scale),
            channels=(1 if picture.grey else 3) + (picture.alpha is not None),
            given_depth=picture.bit_depth,
            quality=quality,
            bit_depth=bit_depth,
        )
        check_free(path, overwrite=overwrite)
        rows = FileRows(path, picture, scale=scale, quality=quality, bit_depth=bit_depth, overwrite=overwrite)
        with rows as sink:
            return self.rows(
                picture,
                sink,
                steps=steps,
                order=order,
                seed=seed,
                noise=noise,
                color_fix=color_fix,
                bit_depth=result_depth(path, bit_depth, picture.bit_depth),
                tile=tile,
                tile_overlap=tile_overlap,
                tile_batch=tile_batch,
                on_progress=on_progress,
                timeout=timeout,
                control=control,
            )

    def plan(
        self,
        image: object,
        *,
        steps: int | None = None,
        order: int | None = None,
        color_fix: str = "wavelet",
        tile: int | str | None = AUTO,
        tile_overlap: int | None = None,
        tile_batch: int | None = None,
        measure: bool = False,
    ) -> RunPlan:
        """What a picture will take, without making it.

        Args:
            image: (width, height), or as of `__call__`, of which the size counts.
            steps, order, color_fix, tile, tile_overlap, tile_batch: as of `__call__`.
            measure: restore one tile now where none of that size was made yet, so that time and memory are known.

        Returns:
            Tiles, engine calls, memory and time on the asked engine.

        Raises:
            SettingsError: a setting is outside its range.
            ImageError: the picture cannot be read, or is too large for the bundle.
            MemoryBudgetError: it takes more than `max_memory`.
            EngineError: the Upscaler is closed.
        """
        tiling = Tiling(tile=tile, overlap=tile_overlap, batch=tile_batch)
        color_fix_named(color_fix)
        count = len(chosen_plan(self._manifest, steps, order, None, False).steps)
        width, height = picture_sides(image)

        def planned() -> RunPlan:
            with self._lock:
                self._check_open()
                way = self._ways.asked
                return plan_run(way, width, height, steps=count, color_fix=color_fix, tiling=tiling, pace=self._calls)

        plan = planned()
        if measure and not self._calls.knows((1, *plan.tile)):
            h, w = (VAE_FACTOR // UPSCALE * side for side in plan.tile)
            self(Tensor((h, w, 3), "uint8"), steps=steps, order=order, color_fix=color_fix, tile=None)
            plan = planned()
        return plan

    def stream(
        self,
        images: Iterable[object],
        *,
        batch: int = 1,
        scale: float = 4,
        steps: int | None = None,
        order: int | None = None,
        seed: int = 42,
        noise: str = "philox",
        color_fix: str = "wavelet",
        bit_depth: int | None = None,
        tile: int | str | None = AUTO,
        tile_overlap: int | None = None,
        tile_batch: int | None = None,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        control: Control | None = None,
        load: Callable[[Any], Picture] = load_picture,
        sink: Callable[[Picture, int], RowSink] | None = None,
    ) -> Iterator[Result]:
        """Restores pictures one after the other, while the next ones are loaded and put on the device.

        Args:
            images: as `__call__` takes them, of any sizes. Four times as many as `batch` are drawn ahead, in the
                caller's thread.
            batch: how many pictures of one size (padded) among those are restored together, at most: up to what the
                engines take. Each has the noise that it has alone.
            scale, steps, order, seed, color_fix, bit_depth, tile, tile_overlap, tile_batch, on_progress, timeout,
                control: see `__call__`. Pictures in tiles are restored one by one.
            noise: "philox" or "torch-cpu".
            load: decodes an image, in a thread of its own; one that checks more may raise any DossrError.
            sink: asked for each picture in tiles, with its number: where its rows go, as of `rows`. Its result has no
                pixels then (0x0) and no image.

        Returns:
            An iterator of the results, in order. What goes wrong with a picture is raised at its turn (`next`), and the
            next turn goes on with the one after it; of a batch that fails each picture is tried alone.
            Stages of `Result.timings` are those of the whole batch. A cancelled stream raises CancelledError once,
            after the results that are there, and ends.

        Raises:
            SettingsError: a setting is outside its range.
        """
        check_scale(scale)
        profiles = self._ways.asked.profiles
        most = max(profile.max[0] for profile in profiles)
        if type(batch) is not int or not 1 <= batch <= most:
            raise SettingsError(f"batch must be a whole number in 1..{most}, which the engines take, not {batch!r}")
        plan = chosen_plan(self._manifest, steps, order, None, False)
        control = chosen_control(control, on_progress, timeout)
        tiling = Tiling(tile=tile, overlap=tile_overlap, batch=tile_batch)
        job = Job(plan=plan, seed=seed, noise=noise, color_fix=color_fix, bit_depth=bit_depth, tiling=tiling)
        count = len(images) if isinstance(images, Sized) else None

        def start(pictures: tuple[Picture, ...], number: int) -> Batch:
            batch = Batch(pictures, job, Clock())
            begun = control.begin(image=number, images=count, work=Work(self._pace, batch.area, len(plan.steps)))
            rows = sink(pictures[0], number) if sink is not None and self._cuts(pictures[0], tiling) else None
            batch.job = dataclasses.replace(job, control=begun, sink=rows)
            return self._submitted(batch)

        def finish(submitted: Batch) -> list[Result | DossrError]:
            pictures = submitted.pictures
            try:
                if submitted.job.sink is not None:
                    return [Result(image=None, pixels=Tensor((0, 0, 3), "uint8"), **vars(self._handed_on(submitted)))]
                return list(self._finished(submitted, scale))
            except DossrError as error:
                if len(pictures) == 1 or isinstance(error, StoppedError):
                    return [error for _ in pictures]
                number = submitted.job.control.image
                return [one for picture in pictures for one in finish(start((picture,), number))]

        return PictureStream(
            images,
            batch,
            load,
            lambda picture: self._ways.asked.largest_batch(picture.width, picture.height, tiling),
            lambda picture: latent_size_needed(picture.width, picture.height),
            start,
            finish,
            control,
            in_flight=1 if self._ways.asked.device.stream is None else 2,
        )

    def _loaded(self, image: object, job: Job, clock: Clock) -> Batch:
        """One picture, submitted."""
        with clock.time("load"), clock.span("load"):
            picture = load_picture(image)
        job.control.work = Work(self._pace, picture.width * picture.height, len(job.plan.steps))
        return self._submitted(Batch((picture,), job, clock))

    def _submitted(self, batch: Batch) -> Batch:
        """The batch, on the asked engine's device or done there."""
        with self._turn(batch.job.control):
            self._check_open()
            batch.submit(self._ways.asked)
            return batch

    def _finished(self, batch: Batch, scale: float) -> list[Result]:
        """The results, made again where values went wrong."""
        made = self._made(batch)
        results = batch.results(made, scale)
        self._learn(batch, made, results[0])
        return results

    def _handed_on(self, batch: Batch) -> Report:
        """A picture whose rows are in its job's sink."""
        made = self._made(batch)
        report = batch.report(made)
        self._learn(batch, made, report)
        return report

    def _cuts(self, picture: Picture, tiling: Tiling) -> bool:
        """Whether it is made in tiles; what is wrong with that is told when it is made."""
        try:
            return self._ways.asked.grid(picture.width, picture.height, tiling) is not None
        except DossrError:
            return False

    def _made(self, batch: Batch) -> Made[tuple[Tensor, ...]]:
        with self._turn(batch.job.control):
            return self._ways.first_right(batch.pixels, batch.job.forget)

    def _learn(self, batch: Batch, made: Made[tuple[Tensor, ...]], report: Report) -> None:
        """What the next pictures will take."""
        if made.guard_hits or batch.shape is None:
            return
        steps = len(batch.job.plan.steps)
        self._pace.learn(report.timings, batch.area, steps)
        size, grid = batch.shape
        calls = engine_calls(self._manifest, grid, size[0], steps, batch.job.color_fix)
        if isinstance(report, Result) and len(batch.pictures) == 1:
            self._calls.learn_memory(report.peak_memory, batch.pictures[0].width, batch.pictures[0].height, size, grid)
        self._calls.learn(report.spans, report.timings["total"], calls, size, grid)

    @contextlib.contextmanager
    def _turn(self, control: Control) -> Iterator[None]:
        """Waits for its turn; a control may end that."""
        while not self._lock.acquire(timeout=_SLICE):
            control.check()
        try:
            yield
        finally:
            self._lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("this Upscaler is closed; open another one")

    def close(self) -> None:
        """Frees the engines and buffers, after the call that is running. Closing twice is allowed."""
        with self._lock:
            self._closed = True
            self._ways.close()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
