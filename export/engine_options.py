"""What is asked of TensorRT's engines. In: options of the command line. Out: an `EngineRequest`, and whether this
machine can fulfil it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass

from engines import nvidia
from engines.backends import ENGINES
from engines.errors import SettingsError
from engines.graphs import AxisRange
from engines.memory import parse_size
from engines.profiles import Profile, check_profiles, parse_profile
from engines.trt_bundle import builder
from engines.trt_options import HARDWARE, PlanOptions, check_refit
from engines.trt_plans import Machine, default_profiles

DEVICE = 0
"""N of cuda:N that is built for: the first GPU that CUDA_VISIBLE_DEVICES leaves."""
_SHAPING = (
    "profile", "optimization_level", "version_compatible", "hardware_compatible", "weight_streaming",
    "strip_weights", "workspace", "no_timing_cache",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """Which engines to build, and how."""

    engine: str = "auto"
    """tensorrt, onnxruntime (which needs none), or auto: TensorRT's where they can be built."""
    profiles: tuple[Profile, ...] = ()
    """None: the bundle's own size, static."""
    optimization_level: int = PlanOptions.optimization_level
    version_compatible: bool = False
    hardware_compatible: str = PlanOptions.hardware_compatible
    weight_streaming: bool = False
    strip_weights: bool = False
    workspace: int | None = None
    """Bytes that one kernel may take; None: from the memory that is free."""
    timing_cache: bool = True

    def options(self, axes: Mapping[str, AxisRange]) -> PlanOptions:
        """The plans' options for a bundle of these axes.

        Raises:
            SettingsError: a profile is beyond the axes, or the level outside its range.
        """
        check_profiles(self.profiles, axes)
        return PlanOptions(
            profiles=self.profiles or default_profiles(axes),
            optimization_level=self.optimization_level,
            version_compatible=self.version_compatible,
            hardware_compatible=self.hardware_compatible,
            weight_streaming=self.weight_streaming,
            strip_weights=self.strip_weights,
        )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """The options that `engine_request` reads."""
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="whose engines to build beside the graphs")
    p = parser.add_argument_group("TensorRT's engines", "for the first GPU of CUDA_VISIBLE_DEVICES; docs/tensorrt.md")
    p.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="SPEC",
        help="sizes to build for, in latent pixels: HxW, BxHxW or MIN:OPT:MAX; may be repeated (default: one, static)",
    )
    p.add_argument("--optimization-level", type=int, default=3, metavar="N", help="0 to 5: how long TensorRT searches")
    p.add_argument("--version-compatible", action="store_true", help="run on newer versions and the lean runtime too")
    p.add_argument("--hardware-compatible", choices=HARDWARE, default="none", help="run on other GPUs too")
    p.add_argument("--weight-streaming", action="store_true", help="weights may stay on the host where memory is short")
    p.add_argument("--strip-weights", action="store_true", help="plans take their weights from the bundle's ONNX files")
    p.add_argument("--workspace", metavar="SIZE", help="what one kernel may take besides (default: what is free)")
    p.add_argument("--no-timing-cache", action="store_true", help="neither use nor keep times of other builds")


def engine_request(args: argparse.Namespace, parser: argparse.ArgumentParser) -> EngineRequest:
    """What the parsed options ask for.

    Raises:
        SettingsError: a value outside its range, or options for engines of which none are built.
    """
    given = [name for name in _SHAPING if getattr(args, name) != parser.get_default(name)]
    if args.engine == "onnxruntime" and given:
        raise SettingsError(
            f"{option(given[0])} is for TensorRT's engines, and --engine onnxruntime builds none; leave one of them out"
        )
    request = EngineRequest(
        engine=args.engine,
        profiles=tuple(map(parse_profile, args.profile)),
        optimization_level=args.optimization_level,
        version_compatible=args.version_compatible,
        hardware_compatible=args.hardware_compatible,
        weight_streaming=args.weight_streaming,
        strip_weights=args.strip_weights,
        workspace=None if args.workspace is None else parse_size(args.workspace),
        timing_cache=not args.no_timing_cache,
    )
    if request.optimization_level not in range(6):
        raise SettingsError(f"--optimization-level is {request.optimization_level}, expected 0 to 5")
    check_refit(version_compatible=request.version_compatible, strip_weights=request.strip_weights)
    return request


def option(name: str) -> str:
    """An option as it is written."""
    return f"--{name.replace('_', '-')}"


def builder_here() -> Machine:
    """What engines would be built with.

    Raises:
        EngineUnavailableError: no driver, no GPU, no TensorRT, or its lean runtime alone.
    """
    gpu_here()
    return builder(DEVICE)


def gpu_here() -> nvidia.Gpu:
    """The GPU that would be built for.

    Raises:
        EngineUnavailableError: no driver, or no GPU.
    """
    with nvidia.advising_onnxruntime():  # --device means something else here
        return nvidia.driver().gpus[DEVICE]


def parse_target(text: str) -> Machine:
    """A machine from "NVIDIA H200,9.0,11.4.0.26": the GPU's name, its compute capability, TensorRT's version.

    Raises:
        SettingsError: anything else.
    """
    match = re.fullmatch(r"\s*(\S.*?)\s*,\s*(\d+)\.(\d+)\s*,\s*(\d+(?:\.\d+)+)\s*", text, re.ASCII)
    if match is None:
        raise SettingsError(
            f"--target is {text[:60]!r}, expected the GPU's name, its compute capability and TensorRT's version, like "
            '"NVIDIA H200,9.0,11.4.0.26"; `dossr doctor` shows all three on the machine itself'
        )
    return Machine(gpu=match[1], compute_capability=(int(match[2]), int(match[3])), tensorrt=match[4])
