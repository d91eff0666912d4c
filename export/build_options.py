"""The command line of a build. In: arguments. Out: what to export (`BuildSettings`)."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from engines.bundle import Precision
from engines.cli import Parser
from engines.errors import SettingsError
from engines.graphs import LATENT_MULTIPLE
from engines.memory import parse_size
from export.engine_options import add_engine_options, option
from export.errors import CheckpointNotFoundError, ConfigError, ContextError
from export.settings import DEVICES, BuildSettings

DEMO_FILES = tuple(
    Path(__file__).parent / "demo" / name for name in ("model.ckpt", "config.yaml", "context.safetensors")
)
"""Checkpoint, config and context of the demo model that ships, made by `python -m training.demo`."""

PREDICTIONS = ("x0-from-eps", "shifted-eps", "v")
"""What the network may predict; `solvers` knows the same names."""

_OF_AN_EXPORT = (
    "checkpoint", "config", "context", "precision", "out", "device", "split_controlnet", "static", "bake_steps",
    "prediction", "t1", "max_memory", "no_resume",
)  # fmt: skip
"""Options that decide what is exported, and mean nothing to a bundle that is there."""


def parser() -> Parser:
    """The command line's options."""
    p = Parser(
        prog="python -m export.build",
        description="Exports a DoSSR checkpoint to a bundle of ONNX graphs; builds TensorRT engines of them.",
    )
    p.add_argument("--bundle", type=Path, metavar="DIR", help="export nothing: build engines of this bundle")
    p.add_argument("--checkpoint", type=Path, help="official .ckpt or .safetensors file (default: the demo model's)")
    p.add_argument("--config", type=Path, help="official YAML of its architecture (default: read off the weights)")
    p.add_argument(
        "--context",
        type=Path,
        help="safetensors with the prompt's embedding (default: from the text encoder)",
    )
    p.add_argument(
        "--precision", choices=[str(x) for x in Precision], help=f"of the graphs (default: {Precision.FP16})"
    )
    p.add_argument("--out", type=Path, help="folder of the bundle (default: bundles/dossr-PRECISION)")
    p.add_argument(
        "--device",
        action="append",
        choices=DEVICES,
        help="for what ONNX Runtime's form of the graphs is written, there or not (may be repeated; default: both)",
    )
    p.add_argument("--split-controlnet", action="store_true", help="export ControlNet and UNet as two graphs")
    p.add_argument(
        "--static",
        metavar="HxW",
        help="fix the shape, in latent pixels (1/8 of the result)",
    )
    p.add_argument(
        "--bake-steps",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="bake the timesteps of plans of N steps: the network does not embed them any more, and takes no others",
    )
    p.add_argument("--prediction", choices=PREDICTIONS, help=f"what the network predicts (default: {PREDICTIONS[0]})")
    p.add_argument("--t1", type=int, help="truncation of the shifting sequence (default: the checkpoint's, else 500)")
    p.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="what the export may take, like 10GiB or 8GB (default: what is available)",
    )
    p.add_argument("--no-resume", action="store_true", help="use no finished graphs of an interrupted export")
    p.add_argument("--quiet", action="store_true", help="show no progress")
    add_engine_options(p)
    p.add_argument(
        "--dry-run", action="store_true", help="print how the engines would be built, on any machine, and do nothing"
    )
    p.add_argument(
        "--target",
        metavar="NAME,CAPABILITY,VERSION",
        help="with --dry-run: the machine that it is for (default: this one)",
    )
    return p


def static_shape(text: str) -> tuple[int, int]:
    """(H, W) from "64x96".

    Raises:
        SettingsError: not two multiples of 8.
    """
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(sides) < LATENT_MULTIPLE or any(side % LATENT_MULTIPLE for side in sides):
        raise SettingsError(
            f"--static is {text!r}, expected HxW in latent pixels, both multiples of {LATENT_MULTIPLE}; "
            "a 512x512 result is --static 64x64"
        )
    return sides


def check_files(checkpoint: Path | None, config: Path | None, context: Path | None) -> None:
    """Whether the files of these options are there.

    Raises:
        CheckpointNotFoundError, ConfigError, ContextError: one is not.
    """
    for name, path, missing in (
        ("--checkpoint", checkpoint, CheckpointNotFoundError),
        ("--config", config, ConfigError),
        ("--context", context, ContextError),
    ):
        if path is not None and not path.is_file():
            raise missing(f"cannot read {name} {path}: there is no such file; correct the path")


def build_settings(args: argparse.Namespace) -> tuple[BuildSettings, bool]:
    """What the parsed options ask to be exported, and whether it is the demo model.

    Raises:
        SettingsError: a value outside its range.
        CheckpointNotFoundError, ConfigError, ContextError: a file is not there, or belongs to a checkpoint.
    """
    static = None if args.static is None else static_shape(args.static)
    max_memory = None if args.max_memory is None else parse_size(args.max_memory)
    demo = args.checkpoint is None
    if demo:
        if args.config or args.context:
            raise CheckpointNotFoundError(
                "--config and --context belong to a checkpoint, and none was given; pass --checkpoint model.ckpt, or "
                "leave all three out to export the demo model"
            )
        args.checkpoint, args.config, args.context = DEMO_FILES
    check_files(args.checkpoint, args.config, args.context)
    precision = Precision(args.precision or Precision.FP16)
    return BuildSettings(
        checkpoint=args.checkpoint,
        config=args.config,
        context=args.context,
        precision=precision,
        devices=tuple(args.device or DEVICES),
        out=args.out or Path("bundles") / f"dossr-{precision}",
        split_controlnet=args.split_controlnet,
        static=static,
        bake_steps=tuple(args.bake_steps),
        prediction=args.prediction or PREDICTIONS[0],
        t1=args.t1,
        max_memory=max_memory,
        resume=not args.no_resume,
    ), demo


def check_export_options(args: argparse.Namespace, commands: Parser) -> None:
    """Whether no option decides what is exported, where nothing is.

    Raises:
        SettingsError: one does.
    """
    given = [option(name) for name in _OF_AN_EXPORT if getattr(args, name) != commands.get_default(name)]
    if given:
        raise SettingsError(
            f"{', '.join(given)}: what is exported, and --bundle exports nothing; leave them out, or export another "
            "bundle with --checkpoint and --out"
        )
