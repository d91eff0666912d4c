"""Bundles of the golden checkpoints, exported once a test session by the real command line."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.paths import LARGER, MINI, REPOSITORY


@dataclass(frozen=True)
class Checkpoint:
    name: str
    folder: Path
    runs: tuple[tuple[str, int, int, str, str], ...]
    """(run, order, steps, color fix, input) of each golden run."""


def _runs(*names):
    found = []
    for name in names:
        order, steps, fix, image = name.split("_")
        found.append((name, int(order[1:]), int(steps[1:]), fix, f"input_{image}.png"))
    return tuple(found)


E2E_MINI = Checkpoint("e2e_mini", MINI, _runs("o3_s5_wavelet_sq", "o2_s3_adain_rect", "o1_s1_none_sq"))
DEMO = Checkpoint("demo", REPOSITORY / "export" / "demo", ())
E2E_COND_DIFFER = Checkpoint(
    "e2e_cond_differ",
    LARGER / "e2e_cond_differ",
    _runs("o3_s5_wavelet_sq", "o3_s1_wavelet_sq", "o1_s5_adain_sq", "o2_s5_none_rect", "o3_s5_wavelet_rect"),
)


@cache
def _session_folder():
    return TemporaryDirectory(prefix="dossr-bundles-")


@cache
def exported_bundle(checkpoint: Checkpoint, *options: str) -> Path:
    """The bundle that `python -m export.build` makes with these options."""
    out = Path(_session_folder().name) / "-".join([checkpoint.name, *options]).replace("--", "")
    command = [sys.executable, "-m", "export.build", "--checkpoint", checkpoint.folder / "model.ckpt"]
    command += ["--config", checkpoint.folder / "config.yaml", "--context", checkpoint.folder / "context.safetensors"]
    done = subprocess.run(
        [*map(str, command), "--out", str(out), "--engine", "onnxruntime", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return out
