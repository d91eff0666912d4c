"""A batch of pictures through a workspace, front to back. In: decoded pictures of one size. Out: their pixels.

pixels -> planar float, padded -> preprocess -> encode -> start -> [denoise -> solver step] x N -> decode -> color fix
-> cropped, in 8 or 16 bits -> pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engines.errors import SettingsError, StoppedError
from engines.graphs import UPSCALE
from runtime.clock import Clock
from runtime.color_fix import color_fix_named
from runtime.control import Control
from runtime.device import Kernels
from runtime.images import Picture, check_depth
from runtime.kernels import Tensor
from runtime.noise import noise_source
from runtime.recording import Recording
from runtime.rows import RowSink
from runtime.sampler import sample, start_latent
from runtime.tiles import Tiling
from runtime.trace import Trace
from runtime.workspace import Workspace
from solvers import Plan


@dataclass(frozen=True, kw_only=True)
class Job:
    """How pictures are restored; those of one batch share it.

    Raises:
        SettingsError: one of the settings is outside its range.
    """

    plan: Plan
    seed: int
    noise: str | Sequence[Any] = "philox"
    color_fix: str = "wavelet"
    bit_depth: int | None = None
    """Of the results; None: each picture's own."""
    tiling: Tiling = field(default_factory=Tiling)
    sink: RowSink | None = None
    """Where the rows of the one picture go instead of into memory."""
    trace: Trace | None = None
    control: Control = field(default_factory=Control)

    def __post_init__(self) -> None:
        color_fix_named(self.color_fix)
        noise_source(self.noise, self.seed)
        check_depth(self.bit_depth)
        if self.trace is not None and not isinstance(self.trace, Trace):
            raise SettingsError(
                f"trace must be a runtime.trace.Trace, not {self.trace!r}; call its write(path) afterwards"
            )

    def forget(self) -> None:
        """Before the pictures are made again: the trace begins anew."""
        if self.trace is not None:
            self.trace.clear()


class Pending:
    """A batch that was put on a device."""

    def __init__(self, landing: Kernels | Recording, pixels: tuple[Tensor, ...]) -> None:
        self._landing = landing
        self._pixels = pixels
        self._finished = False
        self.replayed = isinstance(landing, Recording)
        """Whether it was put there by one launch."""

    def finish(self, control: Control) -> tuple[Tensor, ...]:
        """Waits for the pictures: uint8 or uint16 [4h, 4w, 1 or 3] each.

        Raises:
            GuardError: a stage gave NaN, infinity or values out of range.
            StoppedError: of `control`, meanwhile.
        """
        self._finished = True
        try:
            control.report("finish")
        except BaseException:
            self._landing.abandon(wait=False)
            raise
        self._landing.finish(control.check)
        return self._pixels

    def __del__(self) -> None:
        if isinstance(self._landing, Recording) and not self._finished:
            self._landing.abandon()


def result_pixels(picture: Picture, job: Job) -> tuple[tuple[int, int, int], str]:
    """Shape and dtype of the picture at four times its size."""
    shape = (UPSCALE * picture.height, UPSCALE * picture.width, 1 if picture.grey else 3)
    return shape, f"uint{job.bit_depth or picture.bit_depth}"


def submit(ws: Workspace, pictures: Sequence[Picture], job: Job, clock: Clock) -> Pending:
    """Puts a batch, as many pictures as the workspace takes, on its device; where that works at once, it is done then.

    Raises:
        EngineError: an engine failed.
        GuardError: where the device works at once, a stage gave NaN, infinity or values out of range.
        SettingsError: the caller's noise does not fit.
        StoppedError: of the job's control.
    """
    job.control.check()
    pixels = tuple(Tensor(*result_pixels(picture, job)) for picture in pictures)
    walk = partial(_walk, ws, pictures, pixels)
    if ws.recordings is not None:
        recording = ws.recordings.submit(pictures, pixels, job, clock, walk)
        if recording is not None:
            return Pending(recording, pixels)
    kernels = ws.device.kernels(job.plan, noise_source(job.noise, job.seed))
    try:
        ws.device.time(clock)
        walk(kernels, job, clock)
        if ws.recordings is not None:
            ws.recordings.ran_plainly(pictures, job, kernels.needs)
        return Pending(kernels, pixels)
    except BaseException as error:
        kernels.abandon(wait=isinstance(error, Exception) and not isinstance(error, StoppedError))
        raise
    finally:
        clock.follow_host()


def _walk(
    ws: Workspace,
    pictures: Sequence[Picture],
    pixels: Sequence[Tensor],
    kernels: Kernels,
    job: Job,
    clock: Clock,
) -> None:
    trace = job.trace
    report = partial(job.control.report, steps=len(job.plan.steps))

    def record(name: str, tensor: Tensor) -> None:
        if trace is not None:
            trace.record(name, kernels.read(tensor))

    report("preprocess")
    with clock.time("preprocess"):
        with clock.span("convert"):
            kernels.upload([picture.pixels for picture in pictures], ws.low_res)
        with clock.span("preprocess"):
            ws.run("preprocess")
    report("encode")
    with clock.time("encode"):
        with clock.span("encode"):
            ws.run("encode")
        job.control.check()
        with clock.span("condition"):
            ws.run("condition")
    for name in ("preprocessed", "latent_mean", "latent_std", "condition"):
        record(name, getattr(ws, name))
    report("denoise")
    with clock.time("denoise"):
        start_latent(kernels, ws.state, ws.latent_mean, ws.latent_std, record, clock)
        sample(
            job.plan,
            kernels,
            ws.state,
            ws.denoise,
            record,
            lambda done: report("denoise", step=done),
            clock,
            job.control.check,
        )
    report("decode", step=len(job.plan.steps))
    with clock.time("decode"), clock.span("decode"):
        ws.run("decode")
    record("decoded", ws.decoded)
    report("color_fix", step=len(job.plan.steps))
    with clock.time("color_fix"), clock.span("color_fix"):
        fixed = kernels.color_fix(job.color_fix, ws.decoded, ws.preprocessed)
    if job.color_fix != "none":
        record("colorfixed", fixed)
    with clock.time("finish"), clock.span("convert"):
        kernels.download(fixed, pixels)
