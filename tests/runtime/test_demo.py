"""The model that ships: it is found without a name, and restores better than bicubic enlarging."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import runtime
from engines.bundle import open_bundle
from engines.files import sha256_file
from export.build_options import DEMO_FILES
from runtime.default_bundle import BUNDLE_VARIABLE, DEMO_BUNDLE, default_bundle
from tests.paths import REPOSITORY
from training.bundle_stages import BundleStages
from training.crops import HARDER, LEVELS, crops
from training.evaluation import BICUBIC, evaluate
from training.gates import FIVE_STEPS, ONE_STEP, PREPROCESS

LARGEST = 25_000_000
"""Of the checkpoint and the bundle together; the issue's limit for the whole package."""


@pytest.fixture(scope="module")
def stages():
    with BundleStages(DEMO_BUNDLE) as opened:
        yield opened


def test_it_is_the_default(monkeypatch):
    monkeypatch.delenv(BUNDLE_VARIABLE, raising=False)
    assert default_bundle() == DEMO_BUNDLE
    low_res = crops(1)[0].levels["middle"]
    ours = np.asarray(runtime.upscale(low_res))
    assert ours.shape == (256, 256, 3)
    with runtime.Upscaler() as upscaler:
        assert np.array_equal(np.asarray(upscaler(low_res).image), ours)
    runtime.close()


def test_it_is_the_export_of_the_checkpoint_beside():
    manifest = open_bundle(DEMO_BUNDLE).manifest
    assert manifest.checkpoint["sha256"] == sha256_file(DEMO_FILES[0])


def test_it_is_small():
    folders = (DEMO_BUNDLE, DEMO_FILES[0].parent)
    assert sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file()) < LARGEST


def test_no_paths_of_the_machine_it_was_made_on():
    for file in DEMO_BUNDLE.rglob("*"):
        if file.is_file():
            assert str(REPOSITORY).encode() not in file.read_bytes()
    json.loads((DEMO_BUNDLE / "manifest.json").read_text(encoding="utf-8"))


def test_it_restores(stages):
    """On a quarter of the evaluation's crops; `python -m training.evaluate` has the gates on all of them."""
    restorers = {PREPROCESS: stages.preprocess, ONE_STEP: stages.restorer(1, 1), FIVE_STEPS: stages.restorer(5, 3)}
    report = evaluate(restorers, judged=crops(2), reconstruct=stages.reconstruct)

    def gain(measure, restorer, levels):
        return report.mean(measure, restorer, levels) - report.mean(measure, BICUBIC, levels)

    assert report.vae_psnr > 24.5
    assert gain("psnr", PREPROCESS, HARDER) > 0.4
    assert gain("ssim", PREPROCESS, HARDER) > 0.03
    assert gain("psnr", ONE_STEP, HARDER) > 0
    assert gain("ssim", ONE_STEP, HARDER) > 0
    assert gain("psnr", FIVE_STEPS, HARDER) > -1.5
    assert gain("sharpness", FIVE_STEPS, LEVELS) > 0
    assert report.grids[FIVE_STEPS, "all"] < 1.1


def test_bench_knows_its_checkpoint():
    """Without --bundle and --checkpoint, PyTorch's picture is the bundle's."""
    options = ["--sizes", "32x32", "--runs", "1", "--quiet", "--device", "cpu", "--against", "eager"]
    done = subprocess.run(
        [sys.executable, "-m", "runtime.bench", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={name: value for name, value in os.environ.items() if name != BUNDLE_VARIABLE},
    )
    assert (done.returncode, done.stderr) == (0, "")
    line = next(line for line in done.stdout.splitlines() if line.startswith("eager"))
    assert float(line.split()[-2]) > 45, line
