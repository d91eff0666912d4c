"""`python -m runtime.bench` and `dossr bench`, as processes."""

import json
import os
import subprocess
import sys

import pytest

from runtime.bench.cli import cases_of
from runtime.bench.measure import Case
from tests.paths import REPOSITORY
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def run(*arguments, module=("-m", "runtime.bench"), environment=None):
    return subprocess.run(
        [sys.executable, *module, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | (environment or {}),
    )


@pytest.fixture(scope="module")
def done(bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    options = ["--sizes", "32x32", "48x32", "--steps", "2", "3", "--runs", "3", "--threads", "1", "--device", "cpu"]
    options += ["--batch", "1", "3", "1"]
    files = ["--json", out / "bench.json", "--html", out / "bench.html"]
    return run("--bundle", bundle, *options, *files), out


def test_report(done):
    process, out = done
    assert process.returncode == 0, process.stderr
    assert sorted(path.name for path in out.iterdir()) == ["bench.html", "bench.json"]
    report = json.loads((out / "bench.json").read_text())
    sizes = [(case["width"], case["height"], case["steps"]) for case in report["cases"]]
    assert sizes == [(32, 32, 2), (48, 32, 2), (32, 32, 3)]
    assert {case["picture"]["count"] for case in report["cases"]} == {3}
    assert report["threads"] == 1
    assert report["order"] == 3
    assert report["ceilings"]["flops"] > report["ceilings"]["copy"] / 1000 > 0
    assert report["cold"]["peak_memory"] > 1 << 20
    assert report["machine"]["versions"]["onnxruntime"]
    assert report["peers"] == []
    streams = [
        (s["width"], s["height"], s["batch"], s["pictures"], s["seconds"]["count"]) for s in report["throughput"]
    ]
    assert streams == [(32, 32, 1, 12, 3), (32, 32, 3, 36, 3)]
    for stream in report["throughput"]:
        assert stream["pictures_per_second"] * stream["seconds"]["p50"] == pytest.approx(1)
        assert stream["of_call"] == pytest.approx(stream["seconds"]["p50"] / report["cases"][0]["call"]["p50"])


def test_terminal(done):
    process, _ = done
    assert "32x32, 2 steps" in process.stdout
    assert "denoise" in process.stdout
    assert "round 3 of 3" in process.stderr


def test_page(done):
    text = (done[1] / "bench.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert text.count("<svg") == 6


def test_quiet_and_dossr(bundle):
    start = ("-c", "import sys; from runtime.dossr import main; sys.exit(main())")
    options = ["--sizes", "16x16", "--runs", "1", "--quiet", "--threads", "1"]
    process = run("bench", *options, module=start, environment={"DOSSR_BUNDLE": str(bundle)})
    assert (process.returncode, process.stderr) == (0, "")
    assert "16x16, 5 steps" in process.stdout


def test_a_peer_that_cannot_be_asked_is_said(bundle):
    """PyTorch needs the checkpoint, and none is given; the bench goes on."""
    options = ["--sizes", "16x16", "--runs", "1", "--threads", "1", "--against", "eager", "--device", "cpu"]
    process = run("--bundle", bundle, *options)
    assert process.returncode == 0, process.stderr
    assert "not compared: eager: CheckpointNotFoundError: PyTorch needs the checkpoint" in process.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "start"),
    [
        (["--sizes", "0x8"], 2, "error: SettingsError: --sizes takes WxH"),
        (["--sizes", "128"], 2, "error: SettingsError: --sizes takes WxH"),
        (["--sizes", "5000x8"], 2, "error: SettingsError: --sizes takes WxH"),
        (["--runs", "0"], 2, "error: SettingsError: --runs must be 1 or more"),
        (["--steps", "0"], 2, "error: SettingsError: steps must be in 1..499"),
        (["--batch", "9"], 2, "error: SettingsError: --batch takes whole numbers in 1..8"),
        (["--batch", "0"], 2, "error: SettingsError: --batch takes whole numbers in 1..8"),
        (["--order", "4"], 2, "error: SettingsError: order must be 1, 2 or 3"),
        (["--against", "magic"], 2, "error: SettingsError: argument --against"),
        (["--engine", "tensorrt", "--quiet"], 1, "error: EngineUnavailableError"),
        (["--device", "abacus", "--quiet"], 1, "error: EngineUnavailableError: device must be"),
        (["--threads", "0", "--quiet"], 2, "error: SettingsError: threads must be"),
        (["--max-memory", "much", "--quiet"], 2, "error: SettingsError: 'much' is not a size of memory"),
        (["--json", "FOLDER/none/out.json"], 1, "error: OutputNotWritableError"),
        (["--html", "EXISTS"], 1, "error: OutputExistsError"),
        (["--json", "EXISTS", "--html", "EXISTS", "--overwrite"], 2, "error: SettingsError: two reports"),
        (["--unknown"], 2, "error: SettingsError: unrecognized arguments"),
    ],
)
def test_bad_input_is_one_line(bundle, tmp_path, arguments, code, start):
    (tmp_path / "there").write_text("mine")
    names = {"FOLDER": str(tmp_path), "EXISTS": str(tmp_path / "there")}
    replaced = [
        names.get(argument, argument).replace("FOLDER", str(tmp_path))
        if "/" in argument or argument in names
        else argument
        for argument in arguments
    ]
    process = run("--bundle", bundle, *replaced)
    assert process.returncode == code, process.stderr
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert process.stderr.startswith(start), process.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "mine"


def test_no_bundle(tmp_path):
    process = run("--bundle", tmp_path)
    assert process.returncode == 1
    assert process.stderr.startswith("error: BundleNotFoundError: no bundle at")


def test_cases_vary_one_thing_at_a_time():
    found = cases_of(["64x32", "8x8", "64x32"], [5, 1], None)
    assert found == [
        Case(width=64, height=32, steps=5),
        Case(width=8, height=8, steps=5),
        Case(width=64, height=32, steps=1),
    ]
    assert cases_of(["9x9"], [None], 2) == [Case(width=9, height=9, steps=None, order=2)]
