"""The ways to make one picture, each safer than the one before. In: a bundle, an engine, and what may take its place.
Out: the picture of the first way whose values are right (`runtime.guard`).

A way beyond the asked one is opened when its turn comes and stays open, unless there is a memory budget: then the one
before it is closed first, and it is closed after its picture. Every picture begins with the asked way again.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from engines.backends import backend_named
from engines.base import Backend, EngineSettings
from engines.bundle import Bundle, Manifest, open_bundle
from engines.errors import BundleError, DossrError, GuardError, SettingsError, StoppedError
from runtime.open_way import OpenWay

AUTO, NONE = "auto", "none"
"""What `fallback` may be beside the path of a bundle."""
_log = logging.getLogger("dossr")
_Picture = TypeVar("_Picture")


@dataclass(frozen=True, kw_only=True)
class Way:
    """Which bundle on which engine; None: as asked."""

    engine: str | None = None
    device: str | None = None
    named: bool = False
    """The bundle that `fallback` names, in the place of the asked one."""


WAYS = (
    Way(),
    Way(named=True),
    Way(engine="onnxruntime", device="cpu"),  # the form for the CPU computes fp16 weights in float32
    Way(engine="onnxruntime", device="cpu", named=True),
)
"""In this order; one that comes to the same as an earlier one is passed over."""


@dataclass(frozen=True, kw_only=True)
class Made(Generic[_Picture]):
    """A picture, and how it came about."""

    picture: _Picture
    engine: str
    """`OpenWay.description` of the way that made it."""
    guard_hits: tuple[str, ...]
    """What was wrong on the ways before, and where."""

    @property
    def notices(self) -> tuple[str, ...]:
        """The sentence for a picture that was made again."""
        return (f"{'; '.join(self.guard_hits)}; made again on {self.engine}",) if self.guard_hits else ()


class Ways:
    """The ways of one Upscaler. Not for two threads at once.

    Args:
        bundle: the asked one.
        backend: of the asked engine.
        settings: of the asked engine. Ways with a device of their own take over its threads alone.
        budget: bytes that this process may hold, or None.
        record: whether pictures may be recorded as CUDA graphs (`runtime.recording`).
        fallback: "auto": the ways that need no other bundle; "none": the asked one alone; or the path of a bundle of
            the same checkpoint, for the ways that take one.

    Raises:
        SettingsError: `fallback` is none of these, or its bundle is of another kind.
        BundleError: there is no bundle at the path.
        EngineError, MemoryBudgetError: of the asked way.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        settings: EngineSettings,
        budget: int | None,
        fallback: str | Path,
        *,
        record: bool = True,
    ) -> None:
        self._record = record
        self._bundle, self._backend, self._settings, self._budget = bundle, backend, settings, budget
        self._named = _named_bundle(fallback, bundle.manifest)
        self._allowed = fallback != NONE
        self._open: dict[tuple[Path, str], OpenWay] = {}
        self._pictures = 0
        self.guard_hits: Counter[str] = Counter()
        """By engine, how many pictures had wrong values there."""
        self.asked = self._opened(WAYS[0])

    def first_right(self, attempt: Callable[[OpenWay], _Picture], before_again: Callable[[], None]) -> Made[_Picture]:
        """What `attempt` gives on the first way where it raises no GuardError.

        Args:
            attempt: makes the picture from its beginning.
            before_again: called before it is made again.

        Raises:
            GuardError: no other way is allowed, or none could take over; of the asked way's kind.
            StoppedError: the caller stopped `attempt`.
            DossrError: what else `attempt` raises on the asked way.
        """
        self._pictures += 1
        errors: list[GuardError] = []
        hits: list[str] = []
        so_far = ""
        for way in self._each():
            if hits:
                _log.warning("%s (%s); the picture is made again on %s", hits[-1], so_far, way.description)
                before_again()
            try:
                picture = attempt(way)
                return Made(picture=picture, engine=way.description, guard_hits=tuple(hits))
            except GuardError as error:
                self.guard_hits[way.description] += 1
                so_far = f"{self.guard_hits[way.description]} of {self._pictures} pictures so far"
                errors.append(error)
                hits.append(f"{error.finding}, on {way.description}")
            except DossrError as error:
                if not hits or isinstance(error, StoppedError):
                    raise
                _log.warning("%s cannot take over: %s", way.description, error)
            finally:
                if hits and self._budget is not None:
                    way.rest()
        if len(hits) == 1:
            raise errors[0]
        raise type(errors[0])("; ".join(hits), errors[0].remedy) from errors[-1]

    def close(self) -> None:
        """Frees every engine and buffer."""
        for way in self._open.values():
            way.rest()

    def _each(self) -> Iterator[OpenWay]:
        yield self.asked
        passed = [self.asked]
        for way in WAYS[1:] if self._allowed else ():
            if way.named and self._named is None:
                continue
            try:
                opened = self._opened(way)
            except DossrError as error:
                _log.warning("a safer engine cannot take over: %s", error)
                continue
            if opened not in passed:
                passed.append(opened)
                yield opened

    def _opened(self, way: Way) -> OpenWay:
        """The way's bundle on its engine, opened once."""
        backend = self._backend if way.engine is None else backend_named(way.engine)
        settings = self._settings
        if way.device is not None:
            settings = EngineSettings(device=way.device, threads=settings.threads)
        folder = self._named if way.named and self._named is not None else self._bundle.folder
        key = (folder.resolve(), backend.prepare(settings))
        if key not in self._open:
            bundle = open_bundle(folder) if way.named else self._bundle
            self._open[key] = OpenWay(bundle, backend, settings, self._budget, record=self._record)
        return self._open[key]


def _named_bundle(fallback: str | Path, asked: Manifest) -> Path | None:
    """The folder that `fallback` names, once it is certain that its bundle can take the asked one's place."""
    if fallback in (AUTO, NONE):
        return None
    if not isinstance(fallback, str | os.PathLike):
        raise SettingsError(f'fallback must be "{AUTO}", "{NONE}" or the path of a bundle, not {fallback!r}')
    try:
        other = open_bundle(fallback, check_hashes=False).manifest  # hashes wait until it is needed
    except BundleError as error:
        raise type(error)(f"the fallback is {fallback}: {error}, or leave the fallback out") from error
    if (other.schedule, other.prediction, other.scale) != (asked.schedule, asked.prediction, asked.scale):
        raise SettingsError(
            f"the bundle {fallback} has another noise schedule, prediction type or scale than the asked one; name a "
            "--fallback made from the same checkpoint"
        )
    return Path(fallback)
