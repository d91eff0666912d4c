"""The reference's restoration. In: a reference, a plan, a sample. Out: every call, in order, and what the reference
tells of the inside of each graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from engines.bundle import Manifest
from engines.errors import NonFiniteError
from export.verifying.candidates import Run
from export.verifying.inspection import Known, known
from export.verifying.reference import Network, Reference
from export.verifying.sample import Sample
from export.verifying.walk import Call, walk
from solvers import Plan


class Truth:
    """Restores the sample with the reference when it is made.

    Args:
        manifest: of the judged bundle.
        plan: the sampler.
        sample: picture and noise.
        reference: what is taken as right.
        search: whether to ask for intermediate results too.

    Raises:
        NonFiniteError: the reference itself gives NaN or infinity.
        EngineError: the reference's own ONNX files cannot be run.
    """

    def __init__(self, manifest: Manifest, plan: Plan, sample: Sample, reference: Reference, search: bool) -> None:
        self.plan, self.sample, self.reference = plan, sample, reference
        self.calls: list[Call] = []
        self.known: dict[str, Known] = {}
        """Of each graph's first call; empty without `search`."""
        self._search = search
        self._networks: dict[str, Network] = {}
        self.trajectory = walk(manifest, plan, sample, self._open, self._keep)

    @contextlib.contextmanager
    def _open(self, graphs: Sequence[str]) -> Iterator[Mapping[str, Run]]:
        with contextlib.ExitStack() as stack:
            self._networks = {graph: stack.enter_context(self.reference.open(graph)) for graph in graphs}
            yield {graph: network.run for graph, network in self._networks.items()}
            self._networks = {}

    def _keep(self, call: Call, _run: Run) -> None:
        for name, values in call.outputs.items():
            if not np.isfinite(values).all():
                raise NonFiniteError(
                    f"the reference itself gives NaN or infinity in {name} of {call.label}, expected finite numbers; "
                    "check the checkpoint, or take another --image"
                )
        self.calls.append(call)
        if self._search and call.graph not in self.known:
            self.known[call.graph] = known(call, self._networks[call.graph])
