"""benchmarks/gpu_ways.py on the CPU, with the ways that exist there."""

import json
import subprocess
import sys

import pytest

from benchmarks.gpu_ways import WAYS
from benchmarks.gpu_ways_page import page, winner
from tests.paths import REPOSITORY


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_ways", REPOSITORY / "runtime" / "demo", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_ways_of_a_cpu(tmp_path):
    only = ["canonical", "stream", "fp32", "no CUDA graphs"]
    done = run("--out", tmp_path, "--device", "cpu", "--size", "16x16", "--steps", "1", "--runs", "2", "--only", *only)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu-ways.json").read_text())
    rows = report["ways"]
    assert list(rows) == [name for name in WAYS if name in ("as the runtime opens it", *only)]
    assert rows["fp32"] == {"why": "no bundle was given (--fp32)"}
    assert rows["no CUDA graphs"] == {"why": "an option of the CUDA provider"}
    assert rows["as the runtime opens it"]["psnr"] is rows["stream"]["psnr"] is None
    assert 45 < rows["canonical"]["psnr"] < 100
    for name in ("as the runtime opens it", "canonical", "stream"):
        row = rows[name]
        assert row["ratio"]["count"] == 4
        assert 0 < sum(row["stages"].values()) <= row["seconds"]["most"] * 2
    assert page(report) == (tmp_path / "gpu-ways.md").read_text()
    assert "| canonical |" in done.stdout
    assert not [path for path in (REPOSITORY / "runtime").iterdir() if path.name.startswith(".demo")]


def row(p50, *, right=True, streamed=False):
    return {"ratio": {"p50": p50, "low": p50 - 0.02, "high": p50 + 0.02}, "right": right, "streamed": streamed}


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ({"first": row(1.0), "wrong": row(0.1, right=False), "good": row(0.8)}, "good (0.800"),
        ({"first": row(1.0), "much the same": row(0.97), "left out": {"why": "not here"}}, "first (nobody"),
    ],
)
def test_the_winner(rows, name):
    assert winner(rows, streamed=False).startswith(name)
    assert winner(rows, streamed=True) == "none"
    assert winner(rows | {"stream": row(1.1, streamed=True)}, streamed=True).startswith("stream (1.100")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--device", "abacus"], "device must be"), (["--size", "big"], "--sizes takes WxH")],
)
def test_bad_input_is_one_line(tmp_path, arguments, words):
    done = run("--out", tmp_path / "out", *arguments)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
