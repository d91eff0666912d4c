"""Bundles of the golden checkpoints, exported once a test session by the real command line. The processes of a session
share them.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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


SESSION = "DOSSR_TEST_SESSION"
"""Names the session to the processes that it starts."""


def _session_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"dossr-bundles-{os.environ[SESSION]}"


def remove_bundles() -> None:
    """At the session's end."""
    shutil.rmtree(_session_folder(), ignore_errors=True)


@cache
def exported_bundle(checkpoint: Checkpoint, *options: str) -> Path:
    """The bundle that `python -m export.build` makes with these options."""
    out = _session_folder() / "-".join([checkpoint.name, *options]).replace("--", "")
    out.parent.mkdir(exist_ok=True)
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            _export(checkpoint, out, *options)
    return out


def _export(checkpoint: Checkpoint, out: Path, *options: str) -> None:
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
