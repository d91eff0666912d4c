"""A bundle's engines within a memory budget. In: a backend and a bundle. Out: calls that open what they need.

Without a budget every engine is opened at once and stays. With one, an engine is opened when it is first called, and
the ones that were called longest ago are closed when the next would not fit beside them. What an engine takes is the
backend's estimate (`Footprint`), so that the same bundle, size and budget always do the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from engines.base import Backend, Buffer, Call, EngineSettings, Footprint, Runner, check_buffers
from engines.bundle import Bundle
from engines.errors import MemoryBudgetError
from engines.memory import format_size
from runtime.result import resident_memory

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
        EngineError: the backend refuses a graph.
    """

    def __init__(self, backend: Backend, bundle: Bundle, settings: EngineSettings, budget: int | None) -> None:
        self._backend, self._bundle, self._settings, self._budget = backend, bundle, settings, budget
        self._base = resident_memory()
        self._open: dict[str, Runner] = {}
        """The last called comes last."""
        self._bound: dict[str, Call] = {}
        self._footprints = {name: backend.footprint(bundle, name, settings) for name in bundle.manifest.graphs}
        self.description = backend.name
        for name in bundle.manifest.graphs:
            if budget is None:
                self._opened(name)
            else:
                self._check(name, 0)

    @property
    def open_graphs(self) -> tuple[str, ...]:
        """Names of the graphs whose engines are open now."""
        return tuple(self._open)

    def bind(self, graph: str, tensors: Mapping[str, Buffer], buffers: int, pixels: int) -> PooledCall:
        """A call on these buffers. The last call bound of a graph is the one whose binding is kept.

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
        self._bound.pop(graph, None)
        running = buffers + pixels * self._footprints[graph].running
        self._check(graph, running)
        return PooledCall(self, graph, tensors, running)

    def call(self, graph: str, tensors: Mapping[str, Buffer], running: int) -> Call:
        """The engine's own call, opened and bound if it is not yet, with room made for `running` more bytes."""
        self._make_room(graph, running)
        bound = self._bound.get(graph)
        if bound is None:  # what earlier graphs and sizes left does not fit this one, and would be kept beside it
            self._backend.trim()
        runner = self._opened(graph)
        if bound is None:
            bound = self._bound[graph] = runner.bind(tensors)
        return bound

    def _opened(self, graph: str) -> Runner:
        runner = self._open.pop(graph, None) or self._backend.open(self._bundle, graph, self._settings)
        self._open[graph] = runner
        self.description = runner.description
        return runner

    def _check(self, graph: str, running: int) -> None:
        needed = self._base + _most(self._footprints[graph], running)
        if self._budget is not None and needed > self._budget:
            raise MemoryBudgetError(
                f"max_memory is {format_size(self._budget)}, graph {graph} alone needs about {format_size(needed)}"
                f"{' for a picture of this size' if running else ''}; give more, or take a smaller picture"
            )

    def _make_room(self, graph: str, running: int) -> None:
        if self._budget is None:
            return
        opened = graph in self._open
        need = self._footprints[graph].open + running if opened else _most(self._footprints[graph], running)
        others = [name for name in self._open if name != graph]
        while others and self._base + need + sum(self._footprints[name].open for name in others) > self._budget:
            self._close(others.pop(0))

    def _close(self, graph: str) -> None:
        _log.info("closing the engine of %s", graph)
        self._bound.pop(graph, None)
        self._open.pop(graph).close()

    def close(self) -> None:
        """Frees every engine."""
        if self._open:
            for graph in self.open_graphs:
                self._close(graph)
            self._backend.trim()


def _most(footprint: Footprint, running: int) -> int:
    return max(footprint.opening, footprint.open + running)


class PooledCall:
    """A graph with its buffers, whose engine is opened when it runs."""

    def __init__(self, pool: EnginePool, graph: str, tensors: Mapping[str, Buffer], running: int) -> None:
        self._pool = pool
        self._graph = graph
        self._tensors = tensors
        self._running = running

    def run(self) -> None:
        """See `engines.base.Call.run`."""
        self._pool.call(self._graph, self._tensors, self._running).run()
