"""A bundle's engines within a memory budget. In: a backend and a bundle. Out: calls that open what they need.

Without a budget every engine is opened at once and stays. With one, an engine is opened when it is first called, and
the ones that were called longest ago are closed when the next would not fit beside them. What an engine takes is the
backend's estimate (`Footprint`), on top of what the process held when the pool was made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from engines.base import Backend, Buffer, Call, EngineSettings, Runner, check_buffers
from engines.bundle import Bundle
from engines.errors import MemoryBudgetError
from engines.memory import format_size, resident_memory

_MIB = 1 << 20
_log = logging.getLogger("dossr")


class EnginePool:
    """The engines of one bundle. Not for two threads at once.

    Args:
        backend: opens the graphs.
        bundle: whose graphs.
        settings: passed on to the backend.
        budget: bytes that this process may hold; None: every engine is opened now and kept.

    Raises:
        MemoryBudgetError: some engine alone takes more than the budget.
        EngineError: the backend is not on this machine, or refuses a graph.
    """

    def __init__(self, backend: Backend, bundle: Bundle, settings: EngineSettings, budget: int | None) -> None:
        self._backend, self._bundle, self._settings, self._budget = backend, bundle, settings, budget
        self.description = backend.prepare(settings)
        self._base = resident_memory()
        self.reserved = 0
        """Bytes that the caller holds beside the buffers of calls, of `budget`."""
        self._open: dict[str, Runner] = {}
        """The last called comes last."""
        self._bound: dict[PooledCall, Call] = {}
        self._last: dict[str, PooledCall] = {}
        """By graph, what ran last."""
        self._footprints = {name: backend.footprint(bundle, name, settings) for name in bundle.manifest.graphs}
        for name in bundle.manifest.graphs:
            if budget is None:
                self._opened(name)
            else:
                self._check(name, self._need(name, 0, 0))

    @property
    def open_graphs(self) -> tuple[str, ...]:
        """Names of the graphs whose engines are open now."""
        return tuple(self._open)

    def bind(self, graph: str, tensors: Mapping[str, Buffer], buffers: int, pixels: int) -> PooledCall:
        """A call on these buffers; nothing is opened yet.

        Args:
            graph: its name.
            tensors: every input and output by name.
            buffers: bytes of all buffers of this size of picture.
            pixels: latent pixels of a call, batch included.

        Raises:
            MemoryBudgetError: at this size the graph takes more than the budget.
            EngineError: a buffer contradicts the graph.
        """
        check_buffers(self._bundle.manifest.graphs[graph].spec, tensors)
        self._check(graph, self._need(graph, buffers, pixels), picture=True)
        return PooledCall(self, graph, tensors, buffers, pixels)

    def ready(self, call: PooledCall) -> Call:
        """The engine's own call: room is made, the engine opened, and the buffers bound where they are not yet."""
        self._make_room(call)
        on_host = self._settings.stream is None
        if on_host and self._last.get(call.graph) is not call:  # what other sizes left would be kept beside it
            self._backend.trim()
        runner = self._opened(call.graph)
        if call not in self._bound:
            self._bound[call] = runner.bind(call.tensors)
        self._last[call.graph] = call
        return self._bound[call]

    def bound(self, call: PooledCall) -> Call | None:
        """The engine's own call; None where it is not bound now."""
        return self._bound.get(call)

    def unbind(self, calls: Iterable[PooledCall]) -> None:
        """Lets go of their buffers; engines stay open."""
        for call in calls:
            self._bound.pop(call, None)
            if self._last.get(call.graph) is call:
                del self._last[call.graph]

    def peak(self, buffers: int, pixels: int) -> int:
        """The most that the process is expected to hold, in bytes.

        Args:
            buffers: bytes of all that the caller holds.
            pixels: latent pixels of a call, batch included.
        """
        if self._budget is not None:
            return max(self._need(graph, buffers - self.reserved, pixels) for graph in self._footprints)
        footprints = self._footprints.values()
        running = max(footprint.running for footprint in footprints)
        return self._base + buffers + sum(footprint.open for footprint in footprints) + running * pixels

    def _opened(self, graph: str) -> Runner:
        runner = self._open.pop(graph, None) or self._backend.open(self._bundle, graph, self._settings)
        self._open[graph] = runner
        self.description = runner.description
        return runner

    def _need(self, graph: str, buffers: int, pixels: int) -> int:
        """The most that the process will hold while the graph is opened and run with no other engine open."""
        footprint = self._footprints[graph]
        running = footprint.open + pixels * footprint.running
        return (
            self._base + self.reserved + buffers + (running if graph in self._open else max(footprint.opening, running))
        )

    def _check(self, graph: str, need: int, *, picture: bool = False) -> None:
        if self._budget is not None and need > self._budget:
            size, smaller = (" for a picture of this size", ", or take a smaller picture") if picture else ("", "")
            raise MemoryBudgetError(
                f"max_memory is {format_size(self._budget)}, graph {graph} alone needs about {-(-need // _MIB)} MiB"
                f"{size}; give more{smaller}"
            )

    def _make_room(self, call: PooledCall) -> None:
        if self._budget is None:
            return
        need = self._need(call.graph, call.buffers, call.pixels)
        others = [name for name in self._open if name != call.graph]
        while others and need + sum(self._footprints[name].open for name in others) > self._budget:
            self._close(others.pop(0))

    def _close(self, graph: str) -> None:
        _log.info("closing the engine of %s", graph)
        self.unbind([call for call in self._bound if call.graph == graph])
        self._open.pop(graph).close()

    def close(self) -> None:
        """Frees every engine."""
        if self._open:
            for graph in self.open_graphs:
                self._close(graph)
            self._backend.trim()


class PooledCall:
    """A graph with its buffers, whose engine is opened when it runs."""

    def __init__(self, pool: EnginePool, graph: str, tensors: Mapping[str, Buffer], buffers: int, pixels: int) -> None:
        self._pool = pool
        self.graph = graph
        self.tensors = tensors
        self.buffers = buffers
        self.pixels = pixels

    @property
    def bound(self) -> Call | None:
        """The engine's own call; None before the first run, and where the engine was closed since."""
        return self._pool.bound(self)

    def bind(self) -> None:
        """Opens the engine and binds the buffers now, not at the first run."""
        self._pool.ready(self)

    def run(self) -> None:
        """See `engines.base.Call.run`."""
        self._pool.ready(self).run()
