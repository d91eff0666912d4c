"""`python -m training.evaluate`: a bundle or checkpoint in, figures and pictures out. Only parses and calls; the work
is in `training.evaluation`. Gates that are not met are printed, and are no error.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from engines.cli import Parser, run_command
from engines.errors import DossrError, SettingsError
from engines.files import atomic_path, check_writable
from runtime.default_bundle import default_bundle
from training.bundle_stages import BundleStages
from training.crops import ACROSS, DOWN, crops
from training.evaluation import evaluate
from training.gates import FIVE_STEPS, ONE_STEP, PREPROCESS
from training.sheets import measure_trends, plot_trends, trend_table, write_sheet

MOST_CROPS = ACROSS * DOWN


class ExportFailedError(DossrError):
    """`python -m export.build` did not make a bundle of the checkpoint."""


def parser() -> Parser:
    """The command line's options."""
    p = Parser(prog="python -m training.evaluate", description="Judges a model on 24 crops of three photographs.")
    p.add_argument("--bundle", type=Path, help="folder of the bundle (default: as the runtime's)")
    p.add_argument("--checkpoint", type=Path, help="instead: .ckpt or .safetensors, exported in fp32 to be judged")
    p.add_argument("--config", type=Path, help="the checkpoint's YAML (default: read off the weights)")
    p.add_argument("--context", type=Path, help="safetensors with the prompt's embedding")
    p.add_argument("--json", type=Path, help="file for every figure")
    p.add_argument("--sheet", type=Path, help="PNG file for the contact sheet")
    p.add_argument("--trends", type=Path, help="PNG file for the plot over steps and orders; prints its table")
    p.add_argument("--crops", type=int, default=MOST_CROPS, help=f"of each photograph, 1 to {MOST_CROPS} (default)")
    p.add_argument("--threads", type=int, help="of the engine (default: the cores of this process)")
    return p


def main(argv: Sequence[str]) -> int:
    """Parses the arguments and judges.

    Raises:
        SettingsError: both of --bundle and --checkpoint, or a number of crops out of range.
        ExportFailedError: the checkpoint cannot be exported.
        DossrError: see the functions called.
    """
    given = parser().parse_args(argv)
    if given.bundle is not None and given.checkpoint is not None:
        raise SettingsError("give either --bundle DIR or --checkpoint FILE, or neither for the default bundle")
    if given.checkpoint is None and (given.config or given.context):
        raise SettingsError("--config and --context belong to --checkpoint; leave them out without one")
    if not 1 <= given.crops <= MOST_CROPS:
        raise SettingsError(f"--crops must be 1 to {MOST_CROPS}, not {given.crops}")
    for path in filter(None, (given.json, given.sheet, given.trends)):
        check_writable(path)
    judged = crops(given.crops)
    with (
        _bundle(given.bundle, given.checkpoint, given.config, given.context) as folder,
        BundleStages(folder, threads=given.threads) as stages,
    ):
        restorers = {
            PREPROCESS: stages.preprocess,
            ONE_STEP: stages.restorer(1, 1),
            FIVE_STEPS: stages.restorer(5, 3),
        }
        report = evaluate(restorers, judged=judged, reconstruct=stages.reconstruct, on_progress=_say)
        print(report.table(), end="")
        if given.json:
            with atomic_path(given.json) as temporary:
                temporary.write_text(report.to_json(), encoding="utf-8")
        if given.sheet:
            _say("contact sheet")
            write_sheet(given.sheet, judged, restorers)
        if given.trends:
            _say("trends")
            trends = measure_trends(judged, stages.restorer)
            print("\n" + trend_table(*trends), end="")
            plot_trends(given.trends, *trends)
    return 0


@contextmanager
def _bundle(bundle: Path | None, checkpoint: Path | None, config: Path | None, context: Path | None) -> Iterator[Path]:
    """The bundle's folder; where a checkpoint is given, one that is removed afterwards."""
    if checkpoint is None:
        yield bundle or default_bundle()
        return
    with TemporaryDirectory(prefix="dossr-evaluate-") as folder:
        out = Path(folder) / "bundle"
        command = [sys.executable, "-m", "export.build", "--precision", "fp32", "--quiet", "--out", str(out)]
        for option, value in (("--checkpoint", checkpoint), ("--config", config), ("--context", context)):
            command += [option, str(value)] if value is not None else []
        _say("export")
        if code := subprocess.run(command, check=False).returncode:
            raise ExportFailedError(
                f"the export left with code {code}, see its words above; give a checkpoint it takes"
            )
        yield out


def _say(line: str) -> None:
    print(f"... {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
