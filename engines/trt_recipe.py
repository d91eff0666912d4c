"""How plans are built, in words and numbers. In: options, a graph, free memory. Out: flags by their names, shapes and
sizes, which `engines.trt_build` hands to TensorRT and a dry run prints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from engines.bundle import Bundle
from engines.graphs import GraphSpec, resolve_shape
from engines.hash_cache import cache_folder
from engines.profiles import Profile, axis_sizes
from engines.trt_options import PlanOptions
from engines.trt_plans import Machine

NETWORK_FLAGS = ("STRONGLY_TYPED",)
"""Of NetworkDefinitionCreationFlag: types are the ONNX file's. TensorRT 11 builds no other networks."""
CLEARED_FLAGS = ("TF32",)
"""Of BuilderFlag, set by default: TF32 keeps 10 bits of float32's 23, and an fp32 bundle would miss its gate."""
HARDWARE_LEVELS = {"none": "NONE", "ampere+": "AMPERE_PLUS", "same-cc": "SAME_COMPUTE_CAPABILITY"}
"""`PlanOptions.hardware_compatible` to HardwareCompatibilityLevel."""
_RESERVE = 1 << 30
_LEAST_WORKSPACE = 256 << 20
_KERNELS, _LEAN_RUNTIME = 16 << 20, 48 << 20
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Of one input: smallest, optimal, largest."""


def builder_flags(options: PlanOptions) -> tuple[str, ...]:
    """Names of BuilderFlag that are set.

    The lean runtime stays part of version-compatible plans, so that the full library runs them as well. Stripped plans
    are refitted with the very weights that they were built with, which costs no speed.
    """
    wanted = {
        "VERSION_COMPATIBLE": options.version_compatible,
        "WEIGHT_STREAMING": options.weight_streaming,
        "STRIP_PLAN": options.strip_weights,
        "REFIT_IDENTICAL": options.strip_weights,
    }
    return tuple(name for name, asked in wanted.items() if asked)


def input_shapes(spec: GraphSpec, profile: Profile) -> dict[str, Shapes]:
    """Of each input of a graph that has dynamic axes."""
    return {
        tensor.name: (
            resolve_shape(tensor.shape, axis_sizes(profile.min)),
            resolve_shape(tensor.shape, axis_sizes(profile.opt)),
            resolve_shape(tensor.shape, axis_sizes(profile.max)),
        )
        for tensor in spec.inputs
        if any(isinstance(dim, str) for dim in tensor.shape)
    }


def workspace(free: int | None) -> int | None:
    """Bytes that one kernel may take besides: what is free, but for a tenth, and at least 1 GiB, that the weights and
    the builder itself need; None, TensorRT's own default (all of the GPU's memory), where free memory is not known.
    """
    return None if free is None else max(free - max(_RESERVE, free // 10), _LEAST_WORKSPACE)


def weights_bytes(bundle: Bundle, file: str) -> int:
    """Bytes of an ONNX file of the bundle and of all weights beside it."""
    folder = file.rpartition("/")[0] + "/"
    files = bundle.manifest.files
    beside = [name for name in files if name.startswith(folder) and not name.endswith(".onnx")]
    return sum(files[name].size for name in (file, *beside))


def plan_bytes(bundle: Bundle, file: str, options: PlanOptions) -> int:
    """About how large a plan will be: its weights and kernels, and the lean runtime where it is part of it."""
    weights = 0 if options.strip_weights else weights_bytes(bundle, file)
    return weights + _KERNELS + (_LEAN_RUNTIME if options.version_compatible else 0)


def cache_path(machine: Machine) -> Path | None:
    """The file of the timing cache of a GPU and version; None where there is no place for caches."""
    folder = cache_folder()
    major, minor = machine.compute_capability
    name = re.sub(r"[^a-z0-9.]+", "-", f"{machine.gpu} sm{major}{minor} {machine.tensorrt}".lower())
    return None if folder is None else folder / "tensorrt" / f"timing-{name}.cache"


def describe(options: PlanOptions) -> Sequence[str]:
    """The settings in words, for people."""
    flags = [*builder_flags(options), *(f"no {name}" for name in CLEARED_FLAGS)]
    return (
        f"network flags       {', '.join(NETWORK_FLAGS)}",
        f"builder flags       {', '.join(flags)}",
        f"preview features    {', '.join(options.preview_features) or 'none'}",
        f"optimization level  {options.optimization_level}",
        f"hardware            {HARDWARE_LEVELS[options.hardware_compatible]}",
        "attention           decomposable (where no fused kernel fits, it is built of others)",
    )
