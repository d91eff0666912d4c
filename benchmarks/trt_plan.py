"""One graph's plan alone, built and thrown away: whether TensorRT takes it, how long that takes, what it says.

python -m benchmarks.trt_plan BUNDLE decode [--optimization-level 1] [--profile 64x64]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engines import nvidia
from engines.bundle import open_bundle
from engines.errors import DossrError
from engines.memory import format_size
from engines.profiles import parse_profile
from engines.trt_bundle import builder
from engines.trt_options import PlanOptions
from engines.trt_plans import onnx_file
from engines.trt_recipe import cache_path, workspace


def main(arguments: Sequence[str]) -> int:
    """Prints what came of it; 1 where TensorRT cannot build it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("graph")
    parser.add_argument("--optimization-level", type=int, default=1)
    parser.add_argument("--profile", default="64x64")
    args = parser.parse_args(arguments)
    try:
        here, bundle = builder(0), open_bundle(args.bundle)
        from engines.trt_build import PlanJob, build_plan

        job = PlanJob(
            graph=bundle.manifest.graphs[args.graph].spec,
            onnx=bundle.path(onnx_file(bundle, args.graph, here.tensorrt)),
            options=PlanOptions(profiles=(parse_profile(args.profile),), optimization_level=args.optimization_level),
            workspace=workspace(nvidia.free_memory(0)),
            device=0,
            timing_cache=cache_path(here),
        )
        with tempfile.TemporaryDirectory() as folder:
            plan = Path(folder) / "graph.plan"
            built = build_plan(job, plan, lambda _what, _done: None)
            size = plan.stat().st_size
    except DossrError as error:
        print(f"error: {type(error).__name__}: {error}")
        return 1
    for message in built.messages:
        print(message)
    print(
        f"{args.graph} on {here}: {built.seconds:.1f} s, {format_size(size)}, {built.layers} layers, "
        f"{format_size(built.device_memory)} to work in"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
