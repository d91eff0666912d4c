"""Whether TensorRT's parser takes a graph, told on any machine. In: an ONNX file, a version of TensorRT. Out: what it
would refuse, with the node and what to do.

What is taken stands in `engines.trt_operator_table` (operators, types, opsets) and `engines.trt_restrictions` (forms),
with the sources. It is read off the documentation: that the parser takes a graph does not mean that a build succeeds.
Strict about what the file states, silent about what it does not: a type or rank that cannot be told is not found wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.bundle import Bundle
from engines.errors import EngineBuildError, SettingsError
from engines.onnx_graph import Node, OnnxGraph, OnnxModel, read_model
from engines.onnx_types import Known, known_values
from engines.trt_operator_table import HIGHEST_OPSET, LATEST, LOWEST_OPSET, NAMES, OLDEST, OPERATORS
from engines.trt_plans import onnx_file, parse_version
from engines.trt_restrictions import problems

__all__ = ["LATEST", "Finding", "require_supported", "unsupported"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something in a graph that TensorRT does not take."""

    node: str
    """The node's name, behind those of the nodes and functions that it stands in: "outer/inner"."""
    operator: str
    reason: str
    fix: str
    """The least version of TensorRT, or another form."""

    def __str__(self) -> str:
        return f"{self.operator} ({self.node}): {self.reason}; {self.fix}"


def unsupported(onnx: Path, tensorrt: str = LATEST) -> tuple[Finding, ...]:
    """All that this version of TensorRT would refuse, in the order of the file; empty where it takes the graph.

    Raises:
        BundleSchemaError: not a readable ONNX file.
        SettingsError: a version that the table does not reach back to.
    """
    version = (*parse_version(tensorrt), 0)
    if version[:2] < OLDEST:
        raise SettingsError(
            f"operators are known for TensorRT {_text(OLDEST)} and newer, not for {tensorrt!r}; update it"
        )
    model = read_model(onnx)
    found = [*_opset(model, version), *_graph(model, model.graph, version)]
    for name, body in model.functions.items():
        function = OnnxGraph(nodes=body, constants={}, inputs={}, outputs=())
        found += _graph(model, function, version, inside=f"{name}/")
    return tuple(found)


def require_supported(bundle: Bundle, tensorrt: str = LATEST) -> None:
    """Checks of every graph of a bundle the file that this version would be given.

    Raises:
        EngineBuildError: one has something that it does not take; with the first findings.
        BundleSchemaError, SettingsError: as `unsupported`.
    """
    found = [
        f"{name}: {finding}"
        for name in bundle.manifest.graphs
        for finding in unsupported(bundle.path(onnx_file(bundle, name, tensorrt)), tensorrt)
    ]
    if found:
        raise EngineBuildError(f"TensorRT {tensorrt} does not take the graphs of {bundle.folder}: {_first(found)}")


def _first(found: Sequence[str], most: int = 5) -> str:
    more = f"; and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(found[:most]) + more


def _text(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _opset(model: OnnxModel, version: tuple[int, ...]) -> Iterator[Finding]:
    opset = model.opsets.get("", LOWEST_OPSET)
    highest = next(number for since, number in HIGHEST_OPSET.items() if version >= since)
    if not LOWEST_OPSET <= opset <= highest:
        least = min((since for since, number in HIGHEST_OPSET.items() if number >= opset), default=version)
        update = f"update TensorRT to {_text(least)} or newer, or " if least > version else ""
        yield Finding(
            node="the whole graph",
            operator=f"opset {opset}",
            reason=f"TensorRT {_text(version[:2])} reads opsets {LOWEST_OPSET} to {highest}",
            fix=f"{update}export at opset {highest}",
        )


def _graph(
    model: OnnxModel, graph: OnnxGraph, version: tuple[int, ...], around: Known | None = None, inside: str = ""
) -> Iterator[Finding]:
    known = known_values(graph, around)
    for node in graph.nodes:
        name = inside + (node.name or f"the one that makes {', '.join(filter(None, node.outputs))}")
        if node.op not in model.functions:
            for reason, fix in _node(node, known, version):
                yield Finding(node=name, operator=node.op, reason=reason, fix=fix)
        for part in node.subgraphs:
            yield from _graph(model, part, version, known, f"{name}/")


def _node(node: Node, known: Known, version: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    operator = OPERATORS.get(node.op)
    if operator is None:
        yield (
            "TensorRT's parser does not know the operator",
            "write it in others (a rewrite in export/lowering/), or register a plugin of that name",
        )
    elif version < operator.since:
        form = f"the form for {_text(OLDEST)} (export/lowering/tensorrt_10_12.py)"
        yield (
            f"TensorRT {_text(version[:2])} does not know the operator",
            f"update TensorRT to {_text(operator.since)} or newer, or write it in others, as in {form}",
        )
    else:
        yield from _types(node, known, operator.types)
        yield from problems(node, known, version)


_DATA_IS_MADE = frozenset(
    {"BlackmanWindow", "Constant", "ConstantOfShape", "HammingWindow", "HannWindow", "If", "Loop"}
)
_DATA_INPUT = {"OneHot": 2, "Where": 1}
"""Where it is not the first."""


def _types(node: Node, known: Known, allowed: frozenset[int]) -> Iterator[tuple[str, str]]:
    index = _DATA_INPUT.get(node.op, 0)
    values = () if node.op in _DATA_IS_MADE else node.inputs[index : index + 1]
    if node.op in _DATA_IS_MADE or node.op == "Cast":
        values = (*values, *node.outputs)
    wrong = {known.dtypes[name] for name in values if name in known.dtypes} - allowed
    for dtype in sorted(wrong):
        names = [NAMES[number] for number in sorted(allowed) if number in NAMES]
        yield (
            f"its data is {NAMES.get(dtype, f'of type {dtype}')}, TensorRT takes {', '.join(names)}",
            f"cast it to {names[0]} in front",
        )
