"""`python -m runtime CLIP -o CLIP`. In: arguments. Out: a video file, and an exit code."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from engines.backends import ENGINES
from engines.cli import Parser
from engines.errors import OutputExistsError, SettingsError
from runtime.color_fix import COLOR_FIXES
from runtime.control import Control
from runtime.default_bundle import BUNDLE_VARIABLE, default_bundle, tell_demo
from runtime.fallback import AUTO
from runtime.images import check_scale
from runtime.interrupts import Interrupts
from runtime.tiles import AUTO as AUTO_TILE
from runtime.tiles import parse_tiling
from runtime.upscaler import Upscaler
from runtime.video.codecs import CONTAINERS, VIDEO_CODECS, VIDEO_SUFFIXES, is_video
from runtime.video.restore import check_clip, restore_video


def names_a_clip(arguments: Sequence[str]) -> bool:
    """Whether a command line is about video."""
    return any(not argument.startswith("-") and is_video(Path(argument)) for argument in arguments)


class _ClipParser(Parser):
    """Names the help of clips, which is not that of pictures."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; a clip takes one input and options of its own, see `{self.prog} CLIP --help`")


def parser(prog: str = "python -m runtime") -> Parser:
    """The command line's options: those of pictures that clips have, `--codec` and `--batch`."""
    p = _ClipParser(prog=prog, description="Restores and enlarges a clip with a DoSSR bundle.")
    p.add_argument("input", nargs="+", type=Path, metavar="CLIP", help=f"video file ({', '.join(VIDEO_SUFFIXES)})")
    p.add_argument("-o", "--output", type=Path, required=True, help=f"video file ({', '.join(CONTAINERS)})")
    p.add_argument("--codec", choices=list(VIDEO_CODECS), help="encoder (default: libx264, of .webm libvpx-vp9)")
    p.add_argument("--quality", type=int, help="1 to 100, of the encoder (default: CRF 18 of libx264, which is 66)")
    p.add_argument("--batch", type=int, default=1, help="frames that are restored together (default: %(default)s)")
    p.add_argument(
        "--bundle", type=Path, help=f"folder of the exported model (default: ${BUNDLE_VARIABLE}, else the demo)"
    )
    p.add_argument("--scale", type=float, default=4, help="of the result (default: %(default)s)")
    p.add_argument("--steps", type=int, help="network calls a frame (default: the bundle's, 5)")
    p.add_argument("--order", type=int, help="of the solver, 1 to 3 (default: the bundle's, 3)")
    p.add_argument("--seed", type=int, default=42, help="of the noise, the same for all frames (default: %(default)s)")
    p.add_argument("--color-fix", choices=list(COLOR_FIXES), default="wavelet", help="(default: %(default)s)")
    p.add_argument("--tile", default=AUTO_TILE, metavar="auto|never|N", help="as for pictures (default: %(default)s)")
    p.add_argument("--tile-overlap", type=int, metavar="N", help="of tiles, in latent pixels (default: 16)")
    p.add_argument("--tile-batch", type=int, metavar="N", help="tiles of an engine call (default: 1, more on a GPU)")
    p.add_argument("--timeout", type=float, metavar="SECONDS", help="for the frames that are restored together")
    p.add_argument("--engine", choices=ENGINES, default="auto", help="what runs the graphs (default: %(default)s)")
    p.add_argument("--device", default="auto", help="as for pictures (default: %(default)s)")
    p.add_argument("--threads", type=int, help="CPU threads of an engine call (default: every core allowed)")
    p.add_argument("--max-memory", metavar="SIZE", help="what to hold at most, like 9GiB")
    p.add_argument("--fallback", default=AUTO, metavar="auto|none|DIR", help="as for pictures (default: %(default)s)")
    p.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    p.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return p


def main(arguments: Sequence[str], prog: str = "python -m runtime", *, of_pictures: Parser | None = None) -> int:
    """Restores a clip. What can be checked without decoding it is checked before the bundle is opened.

    Args:
        arguments: of the command line.
        prog: the command's name.
        of_pictures: the parser of pictures, whose options are told from unknown ones.
    """
    clips = parser(prog)
    if of_pictures is not None:
        _refuse_options(arguments, clips, of_pictures)
    args = clips.parse_args(arguments)
    if args.quiet:
        logging.getLogger("dossr").setLevel(logging.ERROR)
    _take_clip(args, prog)
    check_scale(args.scale)
    control = Control(timeout=args.timeout)
    tiling = parse_tiling(args.tile, args.tile_overlap, args.tile_batch)
    check_clip(args.input, args.output, args.codec, args.quality)
    if args.output.exists() and not args.overwrite:
        raise OutputExistsError(f"{args.output} exists; pass --overwrite to replace it, or choose another name")
    bundle = args.bundle or default_bundle()
    with Interrupts() as stops:
        if not (args.quiet or args.json):
            tell_demo(bundle)
        with (
            Upscaler(
                bundle,
                engine=args.engine,
                device=args.device,
                threads=args.threads,
                max_memory=args.max_memory,
                fallback=args.fallback,
            ) as upscaler,
            _Progress(args) as progress,
            stops.cancelling(control),
        ):
            report = restore_video(
                args.input,
                args.output,
                upscaler,
                batch=args.batch,
                scale=args.scale,
                steps=args.steps,
                order=args.order,
                seed=args.seed,
                color_fix=args.color_fix,
                codec=args.codec,
                quality=args.quality,
                overwrite=args.overwrite,
                tile=tiling.tile,
                tile_overlap=tiling.overlap,
                tile_batch=tiling.batch,
                on_frame=progress,
                control=control,
            )
    if args.json:
        paths = {"input": str(args.input), "output": str(args.output), "bundle": str(bundle)}
        print(json.dumps(paths | dataclasses.asdict(report)), flush=True)
    elif not args.quiet:
        print(
            f"{args.input.name} -> {args.output}, {report.frames} frames of {report.width}x{report.height}, "
            f"{report.codec}, {report.seconds:.2f} s, seed {args.seed}",
            file=sys.stderr,
        )
    return 0


def _refuse_options(arguments: Sequence[str], clips: Parser, pictures: Parser) -> None:
    """Whether there are options that pictures have, and clips have not."""
    named = dict.fromkeys(argument.partition("=")[0] for argument in arguments)
    others = [name for name in named if name in pictures.options and name not in clips.options]
    if others:
        clips.error(f"{', '.join(others)}: for pictures, not for clips")


def _take_clip(args: argparse.Namespace, prog: str) -> None:
    """Makes the one input of `args.input`."""
    clips = [path for path in args.input if is_video(path)]
    if not clips:
        raise SettingsError(f"{args.input[0]} is no clip, and {args.output} is one; write an image file")
    if len(args.input) > 1:
        raise SettingsError(
            f"{len(args.input)} inputs, and {clips[0]} is a clip: clips take one input; restore each by itself, and "
            f"pictures without it, see `{prog} CLIP --help`"
        )
    (args.input,) = clips


class _Progress:
    """A line that is written over on a terminal, and goes at the end; nothing in a pipe."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._name = args.input.name
        self._live = not (args.quiet or args.json) and sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __call__(self, done: int, total: int) -> None:
        if self._live:
            count = f"{done}/{total}" if total else str(done)
            print(f"\r\x1b[K{self._name}: frame {count}", end="", file=sys.stderr, flush=True)
