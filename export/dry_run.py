"""What a build of TensorRT's engines would do. In: a bundle, or the graphs that an export would make, a request, and a
machine as far as it is known. Out: lines for people. Needs neither TensorRT nor a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engines.bundle import Bundle
from engines.errors import EngineUnavailableError
from engines.graphs import AxisRange, GraphSpec
from engines.memory import format_size
from engines.trt_operators import unsupported
from engines.trt_options import PlanOptions
from engines.trt_plans import PLANS, Machine, PlanSet, find_plans, key_parts, onnx_file, planned
from engines.trt_recipe import cache_path, describe, input_shapes, plan_bytes, weights_bytes, workspace
from export.engine_options import EngineRequest, gpu_here

_NEWEST = "10.14"
"""Where TensorRT's version is not known: from here on it takes the canonical graphs."""
_UNKNOWN = {"gpu": "the GPU", "tensorrt": "the version of TensorRT"}
"""Parts of a key that only a machine tells."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The machine that is planned for."""

    machine: Machine
    """What is not known of it has a placeholder."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Parts of `_UNKNOWN` that are not known here, to the reason, without advice."""
    free: int | None = None
    """Bytes of its GPU that are free, where it is this machine."""

    def __str__(self) -> str:
        if not self.unknown:
            return str(self.machine)
        known = "" if "tensorrt" in self.unknown else f", TensorRT {self.machine.tensorrt}"
        known += "" if "gpu" in self.unknown else f", {self.machine.gpu}"
        return f"this machine{known}"


def target(named: Machine | None) -> Target:
    """The named machine, else this one as far as it tells what it is."""
    if named is not None:
        return Target(machine=named)
    unknown: dict[str, str] = {}
    gpu, capability, free, version = "?", (0, 0), None, _NEWEST
    try:
        found = gpu_here()
        gpu, capability, free = found.name, found.compute_capability, found.free
    except EngineUnavailableError as error:
        unknown["gpu"] = _reason(error)
    try:
        from engines.trt_library import trt

        version = trt.__version__
    except EngineUnavailableError as error:
        unknown["tensorrt"] = _reason(error)
    machine = Machine(gpu=gpu, compute_capability=capability, tensorrt=version)
    return Target(machine=machine, unknown=unknown, free=free)


def _reason(error: EngineUnavailableError) -> str:
    """What is wrong: our errors say what to do after a semicolon."""
    return str(error).partition("; ")[0]


def plan_of_bundle(bundle: Bundle, request: EngineRequest, to: Target) -> Iterator[str]:
    """The build of a bundle's engines.

    Raises:
        SettingsError: a profile is beyond the bundle's axes.
    """
    options = request.options(bundle.manifest.axes)
    yield f"bundle              {bundle.folder}, {bundle.manifest.precision}"
    yield from _settings(request, options, to)
    sizes = []
    for name, entry in bundle.manifest.graphs.items():
        file = onnx_file(bundle, name, to.machine.tensorrt)
        sizes.append(plan_bytes(bundle, file, options))
        yield f"graph {name}"
        yield f"  built of          {file}, weights {format_size(weights_bytes(bundle, file))}"
        yield f"  plan              about {format_size(sizes[-1])}; device memory is known once it is built"
        yield from _inputs(entry.spec, options)
        found = unsupported(bundle.path(file), to.machine.tensorrt)
        yield f"  operators         {'TensorRT does not take them all:' if found else 'all known to the parser'}"
        yield from (f"    {finding}" for finding in found)
    yield f"disk                about {format_size(sum(sizes))} for all plans"
    plans = planned(bundle, to.machine, options)
    yield from _key(bundle, plans, to)
    yield from _existing(bundle, to)


def plan_of_export(
    specs: Sequence[GraphSpec], axes: Mapping[str, AxisRange], request: EngineRequest, to: Target
) -> Iterator[str]:
    """The build of engines of graphs that are not there yet.

    Raises:
        SettingsError: a profile is beyond the axes.
    """
    options = request.options(axes)
    yield from _settings(request, options, to)
    for spec in specs:
        yield f"graph {spec.name}"
        yield from _inputs(spec, options)
    yield "key                 known once the graphs are exported: it covers their hashes"


def _settings(request: EngineRequest, options: PlanOptions, to: Target) -> Iterator[str]:
    yield f"for                 {to}"
    yield from (f"  {_UNKNOWN[part]} is not known: {reason}" for part, reason in to.unknown.items())
    yield from describe(options)
    yield f"profiles            {', '.join(f'{p} ({_kind(p.static)})' for p in options.profiles)}, in latent pixels"
    yield f"workspace           {_workspace(request, to)}"
    if not request.timing_cache:
        yield "timing cache        none"
    elif to.unknown:
        yield "timing cache        one file for each GPU and version of TensorRT"
    else:
        yield f"timing cache        {cache_path(to.machine) or 'none: there is no folder for caches'}"


def _kind(static: bool) -> str:
    return "static" if static else "smallest:optimal:largest"


def _workspace(request: EngineRequest, to: Target) -> str:
    if request.workspace is not None:
        return f"{format_size(request.workspace)} at most for one kernel"
    if (limit := workspace(to.free)) is not None:
        return f"{format_size(limit)} at most for one kernel, from the {format_size(to.free or 0)} that are free now"
    return "what is free on the GPU but a tenth, at least 1 GiB, which is left to weights and builder"


def _inputs(spec: GraphSpec, options: PlanOptions) -> Iterator[str]:
    """Every input: its smallest, optimal and largest shape in each profile."""
    for number, profile in enumerate(options.profiles):
        shapes = input_shapes(spec, profile)
        for tensor in spec.inputs:
            ranges = shapes.get(tensor.name, ([*tensor.shape],) * 3)
            words = " ".join(f"{word} {list(shape)}" for word, shape in zip(("min", "opt", "max"), ranges, strict=True))
            yield f"  profile {number}         {tensor.name} {tensor.dtype}: {words}"


def _key(bundle: Bundle, plans: PlanSet, to: Target) -> Iterator[str]:
    parts = key_parts(plans)
    missing = [part for part in to.unknown if part != "gpu" or plans.options.hardware_compatible != "ampere+"]
    if missing:
        yield (
            f"key                 not known here for want of {' and '.join(_UNKNOWN[part] for part in missing)}: pass "
            '--target "NAME,CAPABILITY,VERSION", like --target "NVIDIA H200,9.0,11.4.0.26"'
        )
    else:
        folder = bundle.folder / PLANS / plans.key
        yield f"key                 {plans.key}"
        yield f"folder              {folder}{', which is there and would be replaced' if folder.is_dir() else ''}"
    for name, value in (parts | dict.fromkeys(missing, "not known here")).items():
        if isinstance(value, dict):
            yield from (f"  {name} {graph:<14} sha256 {digest[:12]}..." for graph, digest in value.items())
        else:
            yield f"  {name:<20}{value}"


def _existing(bundle: Bundle, to: Target) -> Iterator[str]:
    """Whether there are plans that fit already."""
    if not to.unknown:
        try:
            yield f"plans that fit      {find_plans(bundle, to.machine)[0]}"
        except EngineUnavailableError:
            yield "plans that fit      none yet"
        return
    there = sorted(path.parent.name for path in (bundle.folder / PLANS).glob("[!.]*/manifest.json"))
    yield f"plans so far        {', '.join(there) or 'none'}"
