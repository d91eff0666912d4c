"""Pictures one after the other, with the next ones on their way. In: pictures. Out: their results, in order.

While a batch runs, the pictures after it are loaded by a thread of their own, and on a device the next batch is put
behind it, so that the device does not wait for the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from engines.errors import CancelledError, DossrError
from runtime.control import Control
from runtime.images import Picture, load_picture
from runtime.result import Result

IN_FLIGHT = 2
"""Batches that are on the device, or done and not yet asked for."""
_Batch = TypeVar("_Batch")


class PictureStream(Iterator[Result], Generic[_Batch]):
    """Results in the order of the pictures. What goes wrong with a picture is raised at its turn, and the next call
    goes on with the one after it. Not for two threads at once.

    Args:
        images: as `Upscaler.__call__` takes them; drawn in the caller's thread, a few ahead.
        batch: pictures of one size that are restored together, at most.
        most: how many of a picture's size the engines take together.
        size: which pictures have one size.
        submit: puts pictures of one size on the device; given the first one's number, too.
        finish: waits for them.
        control: may cancel the stream.
    """

    def __init__(
        self,
        images: Iterable[object],
        batch: int,
        most: Callable[[Picture], int],
        size: Callable[[Picture], Hashable],
        submit: Callable[[tuple[Picture, ...], int], _Batch],
        finish: Callable[[_Batch], list[Result | DossrError]],
        control: Control,
    ) -> None:
        self._images, self._batch = iter(images), batch
        self._most, self._size, self._submit, self._finish = most, size, submit, finish
        self._control, self._over = control, False
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="dossr-load")
        self._loading: deque[Future[Picture | DossrError]] = deque()
        self._number = 0
        """Of the first picture that is loading."""
        self._flying: deque[_Batch | DossrError] = deque()
        self._landed: deque[Result | DossrError] = deque()

    def __next__(self) -> Result:
        if not self._landed:
            self._land()
        landed = self._landed.popleft()
        if isinstance(landed, CancelledError):
            self._end()
        if isinstance(landed, DossrError):
            raise landed
        return landed

    def _land(self) -> None:
        """Waits for the batch that comes first."""
        if self._control.cancelled and not self._over:
            self._end()
            self._control.check()
        while not self._over and len(self._flying) < IN_FLIGHT and (group := self._group()) is not None:
            self._flying.append(group)
        if not self._flying:
            self._loader.shutdown(wait=False)
            raise StopIteration
        first = self._flying.popleft()
        self._landed.extend([first] if isinstance(first, DossrError) else self._finish(first))

    def _end(self) -> None:
        """Lets go of every picture that is left, of a stream that was cancelled."""
        self._over = True
        for batch in self._flying:
            if not isinstance(batch, DossrError):
                self._finish(batch)  # ends at once
        for pictures in (self._flying, self._loading, self._landed):
            pictures.clear()
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _group(self) -> _Batch | DossrError | None:
        """The next pictures that go together, on the device; the error of one that cannot be read; None at the end."""
        pictures: list[Picture] = []
        room = self._batch
        while len(pictures) < room and (loaded := self._next_loaded()) is not None:
            if isinstance(loaded, DossrError):
                if not pictures:
                    self._loaded_is_taken()
                    return loaded
                break
            if pictures and self._size(loaded) != self._size(pictures[0]):
                break
            pictures.append(loaded)
            room = min(room, self._most(loaded))
            self._loaded_is_taken()
        return self._submit(tuple(pictures), self._number - len(pictures)) if pictures else None

    def _loaded_is_taken(self) -> None:
        self._loading.popleft()
        self._number += 1

    def _next_loaded(self) -> Picture | DossrError | None:
        """The first picture that is not on the device; None at the end."""
        while len(self._loading) <= IN_FLIGHT * self._batch:
            try:
                image = next(self._images)
            except StopIteration:
                break
            self._loading.append(self._loader.submit(_loaded, image))
        return self._loading[0].result() if self._loading else None


def _loaded(image: object) -> Picture | DossrError:
    try:
        return load_picture(image)
    except DossrError as error:
        return error
