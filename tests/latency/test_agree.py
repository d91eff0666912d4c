"""benchmarks/agree.py on reports."""

import json
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY


def report(path, low, high, side=128):
    middle = (low + high) / 2
    picture = {
        "count": 9,
        "least": low,
        "p50": middle,
        "p90": high,
        "p99": high,
        "most": high,
        "low": low,
        "high": high,
    }
    path.write_text(json.dumps({"cases": [{"width": side, "height": 128, "steps": 5, "picture": picture}]}))
    return path


def run(*paths):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.agree", *paths], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("second", "code", "word"), [((1.1, 1.3), 0, ": agree:"), ((1.21, 1.3), 1, "DO NOT AGREE")])
def test_two_reports(tmp_path, second, code, word):
    done = run(report(tmp_path / "a.json", 1.0, 1.2), report(tmp_path / "b.json", *second))
    assert done.returncode == code
    assert done.stdout.startswith("128x128, 5 steps")
    assert word in done.stdout


def test_reports_of_other_pictures(tmp_path):
    done = run(report(tmp_path / "a.json", 1.0, 1.2), report(tmp_path / "b.json", 1.0, 1.2, side=64))
    assert done.returncode == 2
    assert "share a picture" in done.stderr
