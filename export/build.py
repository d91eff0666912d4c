"""`python -m export.build`: a checkpoint in, a bundle out. Only parses and calls; the work is `export.bundle.build`."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from engines.backends import ENGINES
from engines.bundle import Precision
from engines.cli import Parser, run_command
from engines.errors import EngineUnavailableError, PackageMissingError, SettingsError
from engines.graphs import LATENT_MULTIPLE
from engines.memory import parse_size
from export.errors import CheckpointNotFoundError, ConfigError, ContextError
from export.settings import DEVICES, BuildSettings

DEMO_FILES = tuple(
    Path(__file__).parent / "demo" / name for name in ("model.ckpt", "config.yaml", "context.safetensors")
)
"""Checkpoint, config and context of the demo model that ships, made by `python -m training.demo`."""

PREDICTIONS = ("x0-from-eps", "shifted-eps", "v")
"""What the network may predict; `solvers` knows the same names."""


def parser() -> Parser:
    """The command line's options."""
    p = Parser(prog="python -m export.build", description="Exports a DoSSR checkpoint to a bundle of ONNX graphs.")
    p.add_argument("--checkpoint", type=Path, help="official .ckpt or .safetensors file (default: the demo model's)")
    p.add_argument("--config", type=Path, help="official YAML of its architecture (default: read off the weights)")
    p.add_argument(
        "--context",
        type=Path,
        help="safetensors with the prompt's embedding (default: from the text encoder)",
    )
    p.add_argument(
        "--precision", choices=[str(x) for x in Precision], default=str(Precision.FP16), help="of the graphs"
    )
    p.add_argument("--out", type=Path, help="folder of the bundle (default: bundles/dossr-PRECISION)")
    p.add_argument("--engine", choices=ENGINES, default="auto", help="whose engines to build beside the ONNX graphs")
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
    p.add_argument("--prediction", choices=PREDICTIONS, default=PREDICTIONS[0], help="what the network predicts")
    p.add_argument("--t1", type=int, help="truncation of the shifting sequence (default: the checkpoint's, else 500)")
    p.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="what the export may take, like 10GiB or 8GB (default: what is available)",
    )
    p.add_argument("--no-resume", action="store_true", help="use no finished graphs of an interrupted export")
    p.add_argument("--quiet", action="store_true", help="show no progress")
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
    for option, path, missing in (
        ("--checkpoint", checkpoint, CheckpointNotFoundError),
        ("--config", config, ConfigError),
        ("--context", context, ContextError),
    ):
        if path is not None and not path.is_file():
            raise missing(f"cannot read {option} {path}: there is no such file; correct the path")


def main(argv: Sequence[str]) -> int:
    """Parses and builds."""
    args = parser().parse_args(argv)
    static = None if args.static is None else static_shape(args.static)
    max_memory = None if args.max_memory is None else parse_size(args.max_memory)
    if args.engine == "tensorrt":
        raise EngineUnavailableError(
            f"--engine {args.engine} was asked for, but this version builds no {args.engine} engines yet; use --engine "
            "onnxruntime"
        )
    demo = args.checkpoint is None
    if demo:
        if args.config or args.context:
            raise CheckpointNotFoundError(
                "--config and --context belong to a checkpoint, and none was given; pass --checkpoint model.ckpt, or "
                "leave all three out to export the demo model"
            )
        args.checkpoint, args.config, args.context = DEMO_FILES
    check_files(args.checkpoint, args.config, args.context)
    try:  # torch takes seconds to import: usage errors need not wait
        from export.bundle import build
        from export.progress import Progress, Silent
    except ModuleNotFoundError as error:
        raise PackageMissingError(
            f"export needs {error.name}, which is not installed; run `pip install -c constraints.txt -e '.[export]'`"
        ) from error

    settings = BuildSettings(
        checkpoint=args.checkpoint,
        config=args.config,
        context=args.context,
        precision=Precision(args.precision),
        devices=tuple(args.device or DEVICES),
        out=args.out or Path("bundles") / f"dossr-{args.precision}",
        split_controlnet=args.split_controlnet,
        static=static,
        bake_steps=tuple(args.bake_steps),
        prediction=args.prediction,
        t1=args.t1,
        max_memory=max_memory,
        resume=not args.no_resume,
    )
    if args.quiet:
        build(settings, Silent())
    else:
        with Progress(sys.stderr) as progress:
            build(settings, progress)
    if args.engine == "auto":
        print(
            "NOTE: no TensorRT engines were built (this version has none yet); the bundle holds ONNX graphs for ONNX "
            "Runtime",
            file=sys.stderr,
        )
    if demo:
        print("NOTE: no --checkpoint: this is the small demo model that ships", file=sys.stderr)
    print(settings.out)
    return 0


def end_like_ctrl_c(_number: int, _frame: FrameType | None) -> None:
    """A signal's handler: leaves through the same clean-up as Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end_like_ctrl_c)
    sys.exit(run_command(main))
