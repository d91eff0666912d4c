"""`python -m export.verify BUNDLE`: does every engine compute what the fp32 reference computes? Only parses and calls;
the work is in `export.verifying`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.cli import Parser, run_command
from engines.errors import PackageMissingError, SettingsError
from engines.files import atomic_path, check_writable
from export.build import end_like_ctrl_c
from export.build_options import check_files
from export.errors import EngineDepartsError
from export.progress import Progress, Silent

_MOST_THREADS = 1024


def parser() -> Parser:
    """The command line's options."""
    p = Parser(prog="python -m export.verify", description="Holds a bundle's engines against the fp32 reference.")
    p.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    p.add_argument("--checkpoint", type=Path, help="what it was exported from: the torch networks are the reference")
    p.add_argument("--config", type=Path, help="the checkpoint's YAML (default: read off the weights)")
    p.add_argument("--context", type=Path, help="safetensors with the prompt's embedding (default: text encoder)")
    p.add_argument("--reference", type=Path, metavar="DIR", help="instead: an fp32 bundle of the same checkpoint")
    p.add_argument("--image", type=Path, help="low-resolution picture to restore (default: a small one is made)")
    p.add_argument("--steps", type=int, help="network calls (default: the bundle's)")
    p.add_argument("--order", type=int, help="of the solver (default: the bundle's)")
    p.add_argument("--seed", type=int, default=0, help="of the noise, 0 or more (default: %(default)s)")
    p.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="NAME",
        help="judge this one only, such as canonical or onnxruntime-cpu; may be repeated (default: all present)",
    )
    p.add_argument("--threads", type=int, help="CPU threads of an engine (default: every core allowed)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    p.add_argument("--html", type=Path, metavar="FILE", help="write one page with tables and difference pictures")
    p.add_argument("--no-search", action="store_true", help="where a graph fails, do not look for the reason")
    p.add_argument("--no-write", action="store_true", help="do not write the summary into the bundle's manifest")
    p.add_argument("--quiet", action="store_true", help="show no progress")
    return p


def main(argv: Sequence[str]) -> int:
    """Parses, verifies, and writes what was asked for.

    Raises:
        EngineDepartsError: an engine does not compute what the reference computes; everything was written before.
        DossrError: see `export.verifying.judge.judge`.
    """
    args = parser().parse_args(argv)
    if args.seed < 0:
        raise SettingsError(f"--seed must be 0 or more, not {args.seed}")
    if args.threads is not None and not 1 <= args.threads <= _MOST_THREADS:
        raise SettingsError(f"--threads must be 1 to {_MOST_THREADS}, not {args.threads}")
    check_files(args.checkpoint, args.config, args.context)
    for path in filter(None, (args.json, args.html)):
        check_writable(path)
    try:
        from export.verifying.judge import VerifySettings, judge
        from export.verifying.page import page
        from export.verifying.summary import check_manifest_writable, write_summary
        from export.verifying.table import first_departure, table
    except ModuleNotFoundError as error:
        raise PackageMissingError(
            f"verify needs {error.name}, which is not installed; run `pip install -c constraints.txt -e '.[export]'`"
        ) from error

    settings = VerifySettings(
        bundle=args.bundle,
        checkpoint=args.checkpoint,
        config=args.config,
        context=args.context,
        reference=args.reference,
        image=args.image,
        steps=args.steps,
        order=args.order,
        seed=args.seed,
        engines=tuple(args.engine),
        threads=args.threads,
        search=not args.no_search,
    )
    if not args.no_write:
        check_manifest_writable(args.bundle)
    if args.quiet:
        outcome = judge(settings, Silent())
    else:
        with Progress(sys.stderr) as progress:
            outcome = judge(settings, progress)
    report = outcome.report
    print(table(report), end="", flush=True)
    for path, text in ((args.json, report.to_json), (args.html, lambda: page(outcome))):
        if path is not None:
            with atomic_path(path) as temporary:
                temporary.write_text(text(), encoding="utf-8")
    if not args.no_write:
        write_summary(args.bundle, report)
    if not report.passed:
        raise EngineDepartsError(first_departure(report))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end_like_ctrl_c)
    sys.exit(run_command(main))
