"""`python -m runtime` and `dossr upscale`. In: arguments. Out: image files, and an exit code.

1 is also what is left when some of many pictures failed: the others are there.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from engines.backends import ENGINES
from engines.bundle import open_bundle
from engines.cli import Parser
from engines.errors import SettingsError
from runtime.cli_outputs import Item, Outputs, plan_outputs, refuse_existing
from runtime.cli_report import report_failures, tell_failure, tell_plans
from runtime.cli_run import Run, checked_picture, restore_one, settings_key
from runtime.color_fix import COLOR_FIXES
from runtime.control import Control
from runtime.default_bundle import BUNDLE_VARIABLE, default_bundle, tell_demo
from runtime.fallback import AUTO
from runtime.images import FORMATS, check_scale
from runtime.interrupts import Interrupts
from runtime.journal import NAME, Entry, Journal, remove_stale, stamp
from runtime.names import DEFAULT, FIELDS
from runtime.noise import NOISE_SOURCES, noise_source
from runtime.tiles import AUTO as AUTO_TILE
from runtime.tiles import parse_tiling
from runtime.upscaler import Upscaler
from runtime.video.cli import main as restore_clip
from runtime.video.cli import names_a_clip

_NO_FOLDER = Path(".dossr-plan")
"""Outputs of a plan, which makes none."""


def parser(prog: str = "python -m runtime") -> Parser:
    """The command line's options."""
    p = Parser(
        prog=prog,
        description="Restores and enlarges pictures with a DoSSR bundle; a clip, too, which has options of its own "
        f"(--codec): see `{prog} clip.mp4 --help`.",
    )
    p.add_argument(
        "input",
        nargs="*",
        metavar="INPUT",
        help="image files, folders, quoted patterns like 'photos/**/*.jpg', or - for a list of them from stdin",
    )
    p.add_argument("-o", "--output", type=Path, help="image file, or a folder, which is made; --plan needs none")
    p.add_argument("--list", type=Path, metavar="FILE", help="a text file of inputs, one a line")
    p.add_argument("--recursive", action="store_true", help="folders within folders, too; outputs keep their places")
    p.add_argument(
        "--name",
        metavar="TEMPLATE",
        help=f"of outputs in a folder, of the fields {', '.join(FIELDS)} (default: '{DEFAULT}')",
    )
    p.add_argument(
        "--batch", type=int, default=1, metavar="N", help="pictures of one size restored together (default: 1)"
    )
    p.add_argument("--skip-existing", action="store_true", help="leave outputs that exist, whatever made them")
    p.add_argument(
        "--resume",
        action="store_true",
        help=f"keep a journal of what is finished in the output folder ({NAME}), and go on where a run was stopped",
    )
    p.add_argument("--fail-fast", action="store_true", help="stop at the first picture that fails")
    p.add_argument("--timeout", type=float, metavar="SECONDS", help="a picture that takes longer fails")
    p.add_argument(
        "--bundle",
        type=Path,
        help=f"folder of the exported model (default: ${BUNDLE_VARIABLE}, else the demo model that ships)",
    )
    p.add_argument(
        "--scale", type=float, default=4, help="of the result; other than 4 by a final resize (default: %(default)s)"
    )
    p.add_argument("--steps", type=int, help="network calls (default: the bundle's, 5)")
    p.add_argument("--order", type=int, help="of the solver, 1 to 3 (default: the bundle's, 3)")
    p.add_argument("--seed", type=int, default=42, help="of the noise (default: %(default)s)")
    p.add_argument(
        "--noise", choices=list(NOISE_SOURCES), default="philox", help="source of the noise (default: %(default)s)"
    )
    p.add_argument(
        "--color-fix",
        choices=list(COLOR_FIXES),
        default="wavelet",
        help="where colors come from (default: %(default)s)",
    )
    p.add_argument(
        "--tile",
        default=AUTO_TILE,
        metavar="auto|never|N",
        help="cut pictures into tiles of N latent pixels, 1/8 of the result's; auto: large ones (default: %(default)s)",
    )
    p.add_argument("--tile-overlap", type=int, metavar="N", help="of tiles, in latent pixels (default: 16)")
    p.add_argument("--tile-batch", type=int, metavar="N", help="tiles of an engine call (default: 1, more on a GPU)")
    p.add_argument("--quality", type=int, help="1 to 100, of JPEG, WebP (default: 95) and AVIF (90)")
    p.add_argument(
        "--bit-depth", type=int, choices=(8, 16), help="of the result (default: the input's in PNG and TIFF, else 8)"
    )
    p.add_argument(
        "--format", choices=[suffix.removeprefix(".") for suffix in FORMATS], help="of files in a folder (default: png)"
    )
    p.add_argument("--engine", choices=ENGINES, default="auto", help="what runs the graphs (default: %(default)s)")
    p.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N, openvino, coreml, migraphx or dml (default: %(default)s)",
    )
    p.add_argument(
        "--no-cuda-graphs", action="store_true", help="put every engine call on the GPU by itself, not whole pictures"
    )
    p.add_argument(
        "--rebuild-engines",
        action="store_true",
        help="build TensorRT engines into the bundle where it has none for this machine (minutes)",
    )
    p.add_argument("--threads", type=int, help="CPU threads of an engine call (default: every core allowed)")
    p.add_argument(
        "--max-memory", metavar="SIZE", help="what to hold at most, like 9GiB: engines are closed to stay below it"
    )
    p.add_argument(
        "--fallback",
        default=AUTO,
        metavar="auto|none|DIR",
        help="what makes a picture again whose values went wrong: a safer engine, nothing, or another bundle, too "
        "(default: %(default)s)",
    )
    p.add_argument(
        "--provider-option", action="append", default=[], metavar="KEY=VALUE", help="for ONNX Runtime's provider"
    )
    p.add_argument("--trace", type=Path, metavar="FILE.safetensors", help="write every intermediate (one input)")
    p.add_argument(
        "--plan",
        action="store_true",
        help="say what each picture will take: tiles, engine calls, memory and time (one tile is timed); make none",
    )
    p.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    p.add_argument("--json", action="store_true", help="print one JSON object a picture, also of those that failed")
    p.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return p


def main(arguments: Sequence[str], prog: str = "python -m runtime") -> int:
    """Restores every input. Everything that can be checked without decoding many pictures is checked before the bundle
    is opened.
    """
    commands = parser(prog)
    if names_a_clip(arguments):
        return restore_clip(arguments, prog, of_pictures=commands)
    args = commands.parse_args(arguments)
    if args.output is None:
        if not args.plan:
            commands.error("the following arguments are required: -o/--output")
        args.output = _NO_FOLDER
    warnings.filterwarnings("ignore", module="PIL")  # damage is told in our own words
    if args.quiet:
        logging.getLogger("dossr").setLevel(logging.ERROR)
    check_scale(args.scale)
    noise_source(args.noise, args.seed)
    Control(timeout=args.timeout)
    args.tiling = parse_tiling(args.tile, args.tile_overlap, args.tile_batch)
    if args.batch < 1:
        raise SettingsError(f"--batch must be a whole number from 1, not {args.batch}")
    args.bundle = args.bundle or default_bundle()
    with Interrupts() as stops, ExitStack() as held:
        outputs = plan_outputs(args, _steps(args))
        if args.plan:
            with _upscaler(args) as upscaler:
                failures = [*outputs.failures, *tell_plans(upscaler, outputs.items, args)]
            report_failures(failures, len(outputs.items) + len(outputs.failures))
            return 1 if failures else 0
        if outputs.alone and not (args.skip_existing or args.resume):
            return _one(args, outputs.items[0], stops)
        return _many(args, outputs, stops, held)


def _one(args: argparse.Namespace, item: Item, stops: Interrupts) -> int:
    if not args.overwrite:
        refuse_existing([item], args.trace)
    picture = checked_picture(item.source, item.output, args)
    with _upscaler(args) as upscaler:
        restore_one(upscaler, item, picture, args, stops)
    return 0


def _many(args: argparse.Namespace, outputs: Outputs, stops: Interrupts, held: ExitStack) -> int:
    count = len(outputs.items) + len(outputs.failures)
    talks = not (args.quiet or args.json)
    if outputs.passed_over and talks:
        print(f"files passed over, hidden or without a picture's suffix: {outputs.passed_over}", file=sys.stderr)
    journal, key = None, ""
    if args.resume and outputs.folder is not None:
        open_bundle(args.bundle, check_hashes=False)
        key = settings_key(args, args.bundle)
        outputs.folder.mkdir(exist_ok=True)
        journal = held.enter_context(Journal(outputs.folder))
    todo, again = _left(args, outputs.items, journal, key)
    if journal is not None:
        remove_stale([item.output for item in todo])
    if not args.overwrite:
        refuse_existing([item for item in todo if item.output not in again], args.trace)
    for failure in outputs.failures:
        tell_failure(failure, args)
        if args.fail_fast:
            raise failure.error
    failures = list(outputs.failures)
    there = len(outputs.items) - len(todo)
    if there and talks:
        print(f"{there} of {count} pictures are there already", file=sys.stderr)
    if todo:
        with _upscaler(args) as upscaler:
            run = Run(upscaler, todo, args, journal, key, again)
            try:
                run(stops)
            except BaseException as error:
                if not args.fail_fast:
                    report_failures([*failures, *run.failures], count)
                if isinstance(error, KeyboardInterrupt) or run.failures:
                    error.add_note(f"{there + run.done} of {count} pictures are done, and kept")
                raise
            failures += run.failures
    if outputs.alone and failures:
        raise failures[0].error
    report_failures(failures, count)
    return 1 if failures else 0


def _left(
    args: argparse.Namespace, items: Sequence[Item], journal: Journal | None, key: str
) -> tuple[list[Item], frozenset[Path]]:
    """What is to be made, and of that the outputs that an earlier run with another input or other settings made."""
    todo, again = [], set()
    for item in items:
        entry = None if journal is None else journal.standing(item.output)
        reason = _reason(entry, item, key) if entry is not None else None
        skipped = None
        if args.skip_existing and item.output.exists():
            skipped = "exists"
        elif entry is not None and reason is None:
            skipped = "finished"
        if skipped is None:
            todo.append(item)
            if reason is not None:
                again.add(item.output)
                if not args.quiet:
                    print(f"{item.output} is made again: {reason}", file=sys.stderr)
        elif args.json:
            print(json.dumps({"input": str(item.source), "output": str(item.output), "skipped": skipped}), flush=True)
    return todo, frozenset(again)


def _reason(entry: Entry, item: Item, key: str) -> str | None:
    """Why an output that was finished is not what is asked for now; None where it is."""
    if entry.source != str(item.source.resolve()):
        return f"it was made of {entry.source}"
    if entry.given != stamp(item.source):
        return "its input has changed"
    return None if entry.settings == key else "it was made with other settings"


def _steps(args: argparse.Namespace) -> int:
    """Network calls, where a name asks for them."""
    if args.steps is None and args.name and "{steps" in args.name:
        return open_bundle(args.bundle, check_hashes=False).manifest.plan.steps
    return args.steps or 0


def _upscaler(args: argparse.Namespace) -> Upscaler:
    if not (args.quiet or args.json):
        tell_demo(args.bundle)
    return Upscaler(
        args.bundle,
        engine=args.engine,
        device=args.device,
        threads=args.threads,
        provider_options=[_key_value(option) for option in args.provider_option],
        max_memory=args.max_memory,
        cuda_graphs=not args.no_cuda_graphs,
        rebuild_engines=args.rebuild_engines,
        fallback=args.fallback,
    )


def _key_value(option: str) -> tuple[str, str]:
    key, equals, value = option.partition("=")
    if not equals or not key:
        raise SettingsError(f"--provider-option takes KEY=VALUE, not {option!r}")
    return key, value
