"""`python -m export.build`: a checkpoint in, a bundle out, with engines for this machine; or a bundle in, and the same
with engines. Only parses and calls; the work is `export.bundle.build` and `export.plans.build_plans`.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from engines import graphs
from engines.bundle import open_bundle
from engines.cli import Parser, run_command
from engines.errors import DossrError, EngineUnavailableError, PackageMissingError, SettingsError
from engines.graphs import axis_ranges
from engines.trt_operators import require_supported
from export.build_options import build_settings, check_export_options, parser
from export.dry_run import plan_of_bundle, plan_of_export, target
from export.engine_options import EngineRequest, builder_here, engine_request, parse_target
from export.progress import Progress, Reporter, Silent
from export.settings import BuildSettings


def main(argv: Sequence[str]) -> int:
    """Parses, exports and builds.

    Raises:
        EngineUnavailableError: --engine tensorrt, where its engines cannot be built; nothing was exported then.
        DossrError: see `export.bundle.build` and `export.plans.build_plans`.
    """
    commands = parser()
    args = commands.parse_args(argv)
    request = engine_request(args, commands)
    if args.target is not None and not args.dry_run:
        raise SettingsError(
            "--target is for --dry-run: engines are built for the machine that builds them; leave it out"
        )
    if args.bundle is not None:
        return _of_a_bundle(args, commands, request)
    reason = "" if args.dry_run else _why_none(request)
    settings, demo = build_settings(args)
    request.options(axis_ranges(settings.static))  # what is wrong with them is said before anything is exported
    if args.dry_run:
        return _dry_export(args, settings, request)
    try:  # torch takes seconds to import: usage errors need not wait
        from export.bundle import build
    except ModuleNotFoundError as error:
        what = "neither --checkpoint nor --bundle is given: the demo model would be exported, and " if demo else ""
        raise PackageMissingError(
            f"{what}export needs {error.name}, which is not installed; run `pip install -c constraints.txt -e "
            "'.[export]'`"
        ) from error

    with _reporter(args) as reporter:
        build(settings, reporter)
    _engines(args, settings.out, request, reason)
    if demo:
        _say("NOTE: no --checkpoint: this is the small demo model that ships")
    print(settings.out)
    return 0


def _of_a_bundle(args: argparse.Namespace, commands: Parser, request: EngineRequest) -> int:
    """Builds the engines of a bundle that is there, or says how it would."""
    check_export_options(args, commands)
    if request.engine == "onnxruntime":
        raise SettingsError("--bundle builds engines, and --engine onnxruntime needs none; pass --engine tensorrt")
    if args.dry_run:
        bundle, to = open_bundle(args.bundle), target(None if args.target is None else parse_target(args.target))
        print(*plan_of_bundle(bundle, request, to), sep="\n")
        require_supported(bundle, to.machine.tensorrt)
        return 0
    _engines(args, args.bundle, request, _why_none(request))
    print(args.bundle)
    return 0


def _dry_export(args: argparse.Namespace, settings: BuildSettings, request: EngineRequest) -> int:
    """Says what would be exported, and how its engines would be built."""
    split = settings.split_controlnet
    network = graphs.split_denoise(()) if split else (graphs.DENOISE,)
    specs = (graphs.PREPROCESS, graphs.ENCODE, *network, graphs.DECODE)
    axes = axis_ranges(settings.static)
    shape = "dynamic shapes" if settings.static is None else f"the shape {'x'.join(map(str, settings.static))}"
    print(f"export              {settings.checkpoint} to {settings.out}, {settings.precision}, {shape}")
    print(f"graphs              {', '.join(spec.name for spec in specs)}; condition, if it has an encoder of its own")
    if split:
        print("                    what controlnet hands to unet is known once the checkpoint is read")
    if request.engine == "onnxruntime":
        print("engines             none: --engine onnxruntime")
        return 0
    named = None if args.target is None else parse_target(args.target)
    print(*plan_of_export(specs, axes, request, target(named)), sep="\n")
    return 0


def _why_none(request: EngineRequest) -> str:
    """Why no engines are built; empty where they are, or where none are asked for.

    Raises:
        EngineUnavailableError: they are asked for by name.
    """
    if request.engine == "onnxruntime":
        return ""
    try:
        builder_here()
    except EngineUnavailableError as error:
        if request.engine == "tensorrt":
            raise
        return str(error)
    return ""


def _engines(args: argparse.Namespace, folder: Path, request: EngineRequest, reason: str) -> None:
    """Builds the engines of a complete bundle, if any, and says what came of it."""
    if request.engine == "onnxruntime":
        return
    if reason:
        _say(f"NOTE: NO TENSORRT ENGINES were built, {folder} holds ONNX graphs for ONNX Runtime: {reason}")
        return
    try:
        from export.plans import build_plans, summary
    except ModuleNotFoundError as error:
        raise PackageMissingError(
            f"building engines needs {error.name}, which is not installed; run `pip install -c constraints.txt "
            "'.[cpu,tensorrt-build]'`"
        ) from error
    try:
        with _reporter(args) as reporter:
            bundle, plans = build_plans(open_bundle(folder), request, reporter)
    except (DossrError, KeyboardInterrupt) as error:
        if args.bundle is None:
            error.add_note(f"the bundle {folder} is complete without engines; `--bundle {folder}` goes on from there")
        raise
    _say(*summary(bundle, plans))


@contextlib.contextmanager
def _reporter(args: argparse.Namespace) -> Iterator[Reporter]:
    if args.quiet:
        yield Silent()
    else:
        with Progress(sys.stderr) as progress:
            yield progress


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr)


def end_like_ctrl_c(_number: int, _frame: FrameType | None) -> None:
    """A signal's handler: leaves through the same clean-up as Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end_like_ctrl_c)
    sys.exit(run_command(main))
