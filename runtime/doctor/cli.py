"""`python -m runtime.doctor` and `dossr doctor`. In: arguments. Out: a screen or JSON, and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from engines import errors
from engines.backends import ENGINES
from engines.cli import Parser
from engines.errors import DossrError, EngineError
from runtime.default_bundle import default_bundle
from runtime.doctor.checks import examine
from runtime.doctor.findings import Asked
from runtime.doctor.probing import Answer
from runtime.doctor.screen import lines, report


def parser(prog: str = "python -m runtime.doctor") -> Parser:
    """The command line's options."""
    p = Parser(
        prog=prog, description="Says what is on this machine, what will be used, and how to get what is missing."
    )
    p.add_argument("--bundle", type=Path, help="folder of the exported model (default: as of `dossr upscale`)")
    p.add_argument("--engine", choices=ENGINES, default="auto", help="as of `dossr upscale` (default: %(default)s)")
    p.add_argument("--device", default="auto", help="as of `dossr upscale` (default: %(default)s)")
    p.add_argument("--check", action="store_true", help="hash every file of the bundle")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def main(arguments: Sequence[str], prog: str = "python -m runtime.doctor") -> int:
    """Examines and reports.

    Raises:
        DossrError: what is asked for cannot run; the runtime's own error, after the report.
    """
    args = parser(prog).parse_args(arguments)
    asked = Asked(
        bundle=args.bundle or default_bundle(),
        named=args.bundle is not None,
        engine=args.engine,
        device=args.device,
        check=args.check,
    )
    findings, answer = examine(asked)
    if args.json:
        print(json.dumps(report(findings, runs=not answer.message), indent=1))
    else:
        print("\n".join(lines(findings, sys.stdout.encoding or "ascii", bold=sys.stdout.isatty())))
    if answer.message:
        sys.stdout.flush()  # before the error's line
        raise _error(answer)
    return 0


def _error(answer: Answer) -> DossrError:
    """The runtime's error, as its process told it."""
    kind = getattr(errors, answer.error, None)
    if isinstance(kind, type) and issubclass(kind, DossrError):
        return kind(answer.message)
    return EngineError(f"the runtime {answer.message}" if not answer.error else f"{answer.error}: {answer.message}")
