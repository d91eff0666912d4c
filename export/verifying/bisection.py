"""The first tensor that departs. In: a call and a graph looked into. Out: a `Departure`.

Every tensor's sample tells where to look: at those that depart while nothing that they are made of does. Each such
tensor is computed once more from the reference's own values. If it departs even so, it is the culprit; if not, it only
enlarges what rounding did before it. Where samples show nothing although an output is wrong (an engine that fuses
nodes may be right as soon as their results are kept), few tensors at a time are marked, by bisection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from export.figures import Figures
from export.verifying.inspection import Departure, Inspection
from export.verifying.reference import Network

FAULT = 10.0
"""Times the gate: what no rounding within one operation comes near."""
_MOST_SUSPECTS = 12
_MOST_RUNS = 80
_NOISE = 2.0
"""An innocent tensor's deviation times this is the next search's threshold."""


def suspects(inspection: Inspection, samples: Mapping[str, Figures], threshold: float) -> list[str]:
    """Tensors that depart in their samples while all that they are made of do not, in order."""

    def departs(name: str) -> bool:
        return name in samples and not samples[name].deviation <= threshold

    return [
        name
        for name in inspection.comparable
        if departs(name) and not any(departs(parent) for parent in inspection.frontier(name))
    ]


def find_fault(inspection: Inspection, samples: Mapping[str, Figures], network: Network) -> Departure | None:
    """A tensor that departs by itself by far more than rounding could, whether or not the outputs show it.

    Raises:
        EngineError: the engine cannot run its graph with marked outputs.
    """
    threshold = FAULT * inspection.gate.deviation
    return _culprit(inspection, suspects(inspection, samples, threshold), threshold, network)


def find_departure(inspection: Inspection, samples: Mapping[str, Figures], network: Network) -> Departure:
    """Why the outputs are wrong.

    Raises:
        EngineError: the engine cannot run its graph with marked outputs.
    """
    inspection.measure(inspection.outputs, network)
    departed = [name for name in inspection.outputs if not inspection.known[name].within(inspection.gate)]
    if not departed:
        return inspection.departure("marks", inspection.outputs[0])
    if found := find_fault(inspection, samples, network):
        return found
    gate = inspection.gate.deviation
    if found := _culprit(inspection, suspects(inspection, samples, gate), gate, network):
        return found
    return _bisect(inspection, departed[0], network)


def _culprit(inspection: Inspection, names: Sequence[str], threshold: float, network: Network) -> Departure | None:
    """The first of the suspects that departs when it is computed from the reference's values."""
    for name in names[:_MOST_SUSPECTS]:
        suspect = name
        while inspection.runs < _MOST_RUNS:  # its sample may have missed a few wrong elements above it
            above = inspection.frontier(suspect)
            inspection.measure([suspect, *above], network)
            departed = [parent for parent in above if inspection.departs(parent, threshold)]
            if not departed:
                break
            suspect = departed[0]
        alone = inspection.alone(suspect, network)
        if not alone.deviation <= threshold:
            return _named(inspection, suspect, alone, network)
    return None


def _named(inspection: Inspection, name: str, alone: Figures, network: Network) -> Departure:
    """The culprit; a value just before it that the reference does not have, where that one is infinite already."""
    first = inspection.first_not_finite(name, network) if alone.nan or alone.inf else name
    return inspection.departure("tensor", first, alone if first == name else inspection.known[first])


def _bisect(inspection: Inspection, output: str, network: Network) -> Departure:
    """Between the inputs and a wrong output, at rising thresholds until a culprit is found or rounding explains all."""
    worst = inspection.known[output].deviation
    threshold, first = inspection.gate.deviation, ""
    while threshold < worst and inspection.runs < _MOST_RUNS:
        found = _earliest(inspection, output, threshold, network)
        alone = inspection.alone(found, network)
        if not alone.within(inspection.gate):
            return _named(inspection, found, alone, network)
        first = first or found
        if inspection.known[found].deviation >= worst:
            break
        threshold = _NOISE * inspection.known[found].deviation
    return inspection.departure("sum", first or output)


def _earliest(inspection: Inspection, output: str, threshold: float, network: Network) -> str:
    """The earliest tensor on the way to the output that departs while all that it is made of do not."""
    suspect, unsure = output, inspection.ancestors(output)
    while inspection.runs < _MOST_RUNS:
        while unsure and inspection.runs < _MOST_RUNS:
            picked = _spread(unsure, inspection.marks)
            inspection.measure(picked, network)
            cleared = {name for name in picked if not inspection.departs(name, threshold)}
            for name in tuple(cleared):
                cleared.update(inspection.ancestors(name))
            if departed := [name for name in picked if inspection.departs(name, threshold)]:
                suspect = departed[0]
                cleared.update(set(unsure) - set(inspection.ancestors(suspect)))
            unsure = [name for name in unsure if name not in cleared and name not in picked]
        above = inspection.frontier(suspect)  # something clean may have hidden what another way brings in
        inspection.measure(above, network)
        departed = [name for name in above if inspection.departs(name, threshold)]
        if not departed:
            break
        suspect = departed[0]
        known = inspection.known
        unsure = [n for n in inspection.ancestors(suspect) if n not in known or inspection.departs(n, threshold)]
    return suspect


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Up to `count` of them, evenly apart."""
    if len(names) <= count:
        return list(names)
    return [names[(i + 1) * len(names) // (count + 1)] for i in range(count)]
