"""Which values of two forms of a network are the same. In: the places of both, in the order in which they are made.
Out: pairs.

The exporter numbers values anew in each precision and torch has no names at all, so that names alone pair wrongly; the
order of the operations and the weights that they take do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from export.verifying.onnx_graph import Place


def align(ours: Sequence[Place], theirs: Sequence[Place]) -> dict[str, int]:
    """The name of each of our values that has a counterpart, to its index in `theirs`."""
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    return {ours[block.a + i].name: block.b + i for block in matcher.get_matching_blocks() for i in range(block.size)}
