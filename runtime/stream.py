"""Pictures one after the other, with the next ones on their way. In: pictures. Out: their results, in order.

While a batch runs, the pictures after it are loaded by a thread of their own, and on a GPU the next batch is put behind
it, so that the GPU does not wait for the host. Pictures of one size among those that are loaded go together,
also where others lie between them; their results wait for their turn.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from engines.errors import CancelledError, DossrError, SettingsError
from runtime.control import Control
from runtime.images import Picture
from runtime.result import Result

AHEAD = 4
"""Batches that are loaded before they are needed, so that pictures of one size are found."""
_Batch = TypeVar("_Batch")


@dataclass(frozen=True, kw_only=True)
class _Flying(Generic[_Batch]):
    numbers: Sequence[int]
    batch: _Batch


class PictureStream(Iterator[Result], Generic[_Batch]):
    """Results in the order of the pictures. What goes wrong with a picture is raised at its turn, and the next call
    goes on with the one after it. Not for two threads at once.

    Args:
        images: drawn in the caller's thread, a few ahead.
        batch: pictures of one size that are restored together, at most.
        load: makes a picture of an image, in a thread of its own.
        most: how many of a picture's size the engines take together.
        size: which pictures have one size.
        submit: puts pictures of one size on the device; given the first one's number, too.
        finish: waits for them.
        control: may cancel the stream.
        in_flight: batches that are on the device at once; 1 where it works while it is submitted to.

    Raises:
        SettingsError: `images` is no iterable of pictures.
    """

    def __init__(
        self,
        images: Iterable[object],
        batch: int,
        load: Callable[[object], Picture],
        most: Callable[[Picture], int],
        size: Callable[[Picture], Hashable],
        submit: Callable[[tuple[Picture, ...], int], _Batch],
        finish: Callable[[_Batch], list[Result | DossrError]],
        control: Control,
        in_flight: int,
    ) -> None:
        self._images, self._batch, self._load = _numbered(images), batch, load
        self._most, self._size, self._submit, self._finish = most, size, submit, finish
        self._control, self._in_flight, self._over = control, in_flight, False
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="dossr-load")
        self._loading: dict[int, Future[Picture | DossrError]] = {}
        """By number, in order."""
        self._flying: deque[_Flying[_Batch]] = deque()
        self._landed: dict[int, Result | DossrError] = {}
        self._turn = 0
        """The number of the result that is asked for next."""

    def __next__(self) -> Result:
        while self._turn not in self._landed:
            self._land()
        landed = self._landed.pop(self._turn)
        self._turn += 1
        if isinstance(landed, CancelledError):
            self._end()
        if isinstance(landed, DossrError):
            raise landed
        return landed

    def _land(self) -> None:
        """Waits for the batch that comes first, with the next one behind it."""
        if self._control.cancelled and not self._over:
            self._end()
            self._control.check()
        while not self._over and len(self._flying) < self._in_flight and self._take_off():
            if self._turn in self._landed:
                return
        if not self._flying:
            self._loader.shutdown(wait=False)
            raise StopIteration
        first = self._flying.popleft()
        self._landed.update(zip(first.numbers, self._finish(first.batch), strict=True))

    def _end(self) -> None:
        """Lets go of every picture that is left, of a stream that was cancelled."""
        self._over = True
        for flying in self._flying:
            self._finish(flying.batch)  # ends at once
        self._flying.clear()
        self._loading.clear()
        self._landed.clear()
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _take_off(self) -> bool:
        """Puts the next pictures that go together on the device, and errors among the results; False at the end."""
        self._draw()
        if not self._loading:
            return False
        group: dict[int, Picture] = {}
        room = self._batch
        for number, loading in list(self._loading.items()):
            loaded = loading.result()
            if isinstance(loaded, DossrError):
                self._landed[number] = loaded
                del self._loading[number]
            elif not group or self._size(loaded) == self._size(next(iter(group.values()))):
                group[number] = loaded
                room = min(room, self._most(loaded))
                del self._loading[number]
            if len(group) >= room:
                break
        if group:
            numbers = tuple(group)
            self._flying.append(_Flying(numbers=numbers, batch=self._submit(tuple(group.values()), numbers[0])))
        return True

    def _draw(self) -> None:
        while len(self._loading) < AHEAD * self._batch:
            try:
                number, image = next(self._images)
            except StopIteration:
                return
            self._loading[number] = self._loader.submit(self._loaded, image)

    def _loaded(self, image: object) -> Picture | DossrError:
        try:
            return self._load(image)
        except DossrError as error:
            return error


def _numbered(images: Iterable[object]) -> Iterator[tuple[int, object]]:
    """The pictures and their numbers. One file's name or bytes are iterable, too, and no pictures."""
    try:
        if not isinstance(images, str | bytes | bytearray | os.PathLike):
            return enumerate(images)
    except TypeError:
        pass
    raise SettingsError(
        f"a stream takes an iterable of pictures, not the {type(images).__name__} {repr(images)[:60]}; pass [picture], "
        "or runtime.inputs.pictures_in(folder).paths for those of a folder"
    )
