"""Folders of pictures on the command line: mixed ones, killed and resumed, names, failures, signals, progress."""

import hashlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.cli import run_command
from runtime.cli import main
from runtime.journal import NAME, Journal
from tests.paths import REPOSITORY
from tests.runtime.odd_images import BAD, CHANNELS, GOOD
from tests.tiny import write_tiny_bundle

LEFT_OUT = (".svg", ".eps")
"""No pictures' suffixes: passed over in folders."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def album(tmp_path):
    """Five pictures of two sizes, in natural order p1, p2, p10, and two in a folder."""
    folder = tmp_path / "album"
    (folder / "deep").mkdir(parents=True)
    for i, name in enumerate(("p1.png", "p2.png", "p10.png", "deep/p1.png", "deep/p3.png")):
        size = (24, 16) if i % 2 else (40, 24)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (*size[::-1], 3), np.uint8)).save(folder / name)
    return folder


def dossr(capsys, *arguments):
    """Exit code, stdout and the lines of stderr of a command in this process."""
    capsys.readouterr()
    code = run_command(main, [str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err.splitlines()


def start(*arguments, **options):
    command = [sys.executable, "-m", "runtime", *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, **options)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def states(folder):
    """What would show that a file was written again."""
    found = {}
    for path in folder.rglob("[!.]*"):
        if path.is_file():
            status = path.stat()
            found[path] = (status.st_mtime_ns, status.st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def wait_for(process, condition):
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Odd pictures of every kind, good and bad; by file name."""
    folder = tmp_path_factory.mktemp("mixed")
    cases = [case for case in (*GOOD[::3], *BAD) if not case.makes_path]
    chosen = {f"{i:03} {re.sub('[^a-zA-Z0-9]+', ' ', case.name)}{case.suffix}": case for i, case in enumerate(cases)}
    for name, case in chosen.items():
        (folder / name).write_bytes(case.make())
    return folder, {name: case for name, case in chosen.items() if case.suffix not in LEFT_OUT}


def test_a_mixed_folder_killed_half_way_and_resumed(bundle, mixed, tmp_path):
    folder, cases = mixed
    good = {f"{Path(name).stem}.png": case for name, case in cases.items() if not case.error}
    bad = {name: case for name, case in cases.items() if case.error}
    assert len(cases) >= 50
    assert len(bad) >= 20
    out = tmp_path / "out"
    command = (folder, "-o", out, "--bundle", bundle, "--batch", "4", "--steps", "40", "--resume")
    killed = start(*command, "--quiet")
    wait_for(killed, lambda: out.is_dir() and len(list(out.glob("[!.]*"))) > len(good) / 3)
    killed.kill()
    killed.communicate()
    before = states(out)
    assert 0 < len(before) < len(good)
    stale = out / f".{Path(next(name for name in good if out / name not in before)).stem[:40]}.abcd1234.part.png"
    stale.write_text("half")

    resumed = start(*command, "--json", stdout=subprocess.PIPE)
    stdout, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 1
    reports = [json.loads(line) for line in stdout.splitlines()]
    after = states(out)
    assert {path: state for path, state in after.items() if path in before} == before
    assert files(out) == sorted([*good, NAME])
    lines = [json.loads(line)["output"] for line in (out / NAME).read_text().splitlines()]
    assert sorted(set(lines)) == sorted(good), "each has its line"
    assert all(lines.count(path.name) == 1 for path in before), "nothing is done twice"
    assert {Path(report["output"]) for report in reports if "skipped" in report} == set(before)
    for name, case in good.items():
        with Image.open(out / name) as image:
            image.load()
            height, width, _ = np.asarray(case.expected).shape
            assert image.size == (4 * width, 4 * height)
            assert case.bits == 16 or len(image.getbands()) == CHANNELS[case.kind]

    failed = {Path(report["input"]).name: report for report in reports if "error" in report}
    assert {name: report["error"] for name, report in failed.items()} == {n: case.error for n, case in bad.items()}
    assert all(bad[name].text in report["message"] for name, report in failed.items())
    summary = errors.splitlines()[-len(bad) - 1 :]
    assert summary[0] == f"{len(bad)} of {len(cases)} pictures failed:"
    for line, (name, case) in zip(summary[1:], bad.items(), strict=True):
        assert line.startswith(f"  {folder / name}: {case.error}: ")


def test_the_pictures_are_those_that_each_is_alone(bundle, album, tmp_path, capsys):
    arguments = ("--bundle", bundle, "--seed", "3", "--steps", "2", "--quiet")
    assert dossr(capsys, album, "--recursive", "-o", tmp_path / "out", "--batch", "4", *arguments) == (0, "", [])
    names = ["deep/p1.png", "deep/p3.png", "p1.png", "p10.png", "p2.png"]
    assert files(tmp_path / "out") == names
    for name in names:
        assert dossr(capsys, album / name, "-o", tmp_path / "alone.png", "--overwrite", *arguments) == (0, "", [])
        with Image.open(tmp_path / "alone.png") as alone, Image.open(tmp_path / "out" / name) as together:
            assert np.abs(np.asarray(alone).astype(int) - np.asarray(together)).max() <= 1


def test_order_lines_and_what_is_passed_over(bundle, album, tmp_path, capsys):
    (album / "notes.txt").touch()
    code, out, errors = dossr(capsys, album, "-o", tmp_path / "out", "--bundle", bundle, "--batch", "2")
    assert (code, out) == (0, "")
    assert errors[0] == "files passed over, hidden or without a picture's suffix: 1"
    assert [line.split(" -> ")[0] for line in errors[1:]] == ["p1.png", "p2.png", "p10.png"]


def test_patterns_lists_and_stdin(bundle, album, tmp_path, capsys, monkeypatch):
    arguments = ("--bundle", bundle, "--steps", "1", "--quiet")
    assert dossr(capsys, f"{album}/p1*.png", "-o", tmp_path / "a", *arguments)[0] == 0
    assert files(tmp_path / "a") == ["p1.png", "p10.png"]
    (tmp_path / "list").write_text(f"{album}/p2.png\n{album}/p10.png\n")
    assert dossr(capsys, "--list", tmp_path / "list", "-o", tmp_path / "b", *arguments)[0] == 0
    assert files(tmp_path / "b") == ["p10.png", "p2.png"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{album}/p1.png\n"))
    assert dossr(capsys, "-", f"{album}/p2.png", "-o", tmp_path / "c", *arguments)[0] == 0
    assert files(tmp_path / "c") == ["p1.png", "p2.png"]


def test_names(bundle, album, tmp_path, capsys):
    template = "{index:02}_{stem}_x{scale}_{width}x{height}_s{seed}_{steps}.{ext}"
    options = ("--name", template, "--scale", "2", "--format", "webp", "--bundle", bundle, "--recursive", "--quiet")
    (album / "bad.png").write_text("no picture")
    code, _, errors = dossr(capsys, album, "-o", tmp_path / "out", *options)
    assert code == 1
    assert errors[0] == "1 of 6 pictures failed:"
    assert files(tmp_path / "out") == [
        "04_p1_x2_80x48_s42_5.webp",
        "05_p2_x2_48x32_s42_5.webp",
        "06_p10_x2_80x48_s42_5.webp",
        "deep/02_p1_x2_48x32_s42_5.webp",
        "deep/03_p3_x2_80x48_s42_5.webp",
    ]


def test_skip_existing_leaves_what_is_there(bundle, album, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "p2.png").write_text("of another hand")
    arguments = (album, "-o", out, "--bundle", bundle, "--skip-existing")
    code, _, errors = dossr(capsys, *arguments)
    assert (code, errors[0]) == (0, "1 of 3 pictures are there already")
    assert (out / "p2.png").read_text() == "of another hand"
    before = states(out)
    assert dossr(capsys, *arguments[:4], "none", "--skip-existing") == (0, "", ["3 of 3 pictures are there already"])
    assert states(out) == before
    one = (album / "p1.png", "-o", out / "p1.png", "--bundle", "none", "--skip-existing", "--json")
    assert json.loads(dossr(capsys, *one)[1])["skipped"] == "exists"


def test_resume_makes_again_what_would_be_another_picture(bundle, album, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = (album, "-o", out, "--bundle", bundle, "--resume", "--steps", "1")
    assert dossr(capsys, *arguments)[0] == 0
    before = states(out)
    assert dossr(capsys, *arguments) == (0, "", ["3 of 3 pictures are there already"])
    Image.new("RGB", (9, 9)).save(album / "p2.png")
    errors = dossr(capsys, *arguments)[2]
    assert errors[0] == f"{out / 'p2.png'} is made again: its input has changed"
    changed = {path.name for path, state in states(out).items() if before[path] != state}
    assert changed == {"p2.png"}
    errors = dossr(capsys, *arguments, "--seed", "1")[2]
    assert [line.split(": ")[1] for line in errors[:3]] == ["it was made with other settings"] * 3
    (out / "p1.png").write_text("edited since")
    code, _, errors = dossr(capsys, *arguments, "--seed", "1")
    assert (code, len(errors)) == (1, 1)
    assert errors[0].startswith(f"error: OutputExistsError: {out / 'p1.png'} exists; pass --overwrite to replace it, ")
    assert dossr(capsys, *arguments, "--seed", "1", "--overwrite")[0] == 0


def test_resume_with_other_inputs_of_the_same_names(bundle, album, tmp_path, capsys):
    arguments = ("-o", tmp_path / "out", "--bundle", bundle, "--resume", "--steps", "1")
    assert dossr(capsys, album, *arguments)[0] == 0
    errors = dossr(capsys, album / "deep", *arguments)[2]
    assert errors[0] == f"{tmp_path / 'out' / 'p1.png'} is made again: it was made of {album / 'p1.png'}"


def test_two_runs_in_one_folder(bundle, album, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    with Journal(out):
        code, _, errors = dossr(capsys, album, "-o", out, "--bundle", bundle, "--resume")
    assert (code, len(errors)) == (1, 1)
    assert errors[0].startswith("error: OutputNotWritableError: another run holds ")


def test_failures_are_reported_at_the_end_and_fail_fast_stops(bundle, album, tmp_path, capsys):
    (album / "p2.png").write_text("no picture")
    out = tmp_path / "out"
    code, _, errors = dossr(capsys, album, "-o", out, "--bundle", bundle)
    assert code == 1
    assert errors[1] == "p2.png failed: ImageDecodeError"
    assert errors[-2] == "1 of 3 pictures failed:"
    assert files(out) == ["p1.png", "p10.png"]
    code, stdout, errors = dossr(capsys, album, "-o", tmp_path / "b", "--bundle", bundle, "--fail-fast", "--json")
    assert code == 1
    assert errors[0].startswith("error: ImageDecodeError: ")
    assert errors[1] == "1 of 3 pictures are done, and kept"
    assert [json.loads(line).get("error") for line in stdout.splitlines()] == [None, "ImageDecodeError"]
    assert files(tmp_path / "b") == ["p1.png"]


def test_results_that_cannot_be_written_are_found_before_they_are_made(bundle, album, tmp_path, capsys):
    Image.new("RGBA", (9, 9)).save(album / "p2.png")
    code, _, errors = dossr(capsys, album, "-o", tmp_path / "out", "--format", "jpg", "--bundle", bundle)
    assert code == 1
    assert "p2.png: OutputNotWritableError: cannot write" in errors[-1]
    assert "JPEG holds none; use .png" in errors[-1]
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "deep").touch()
    code, _, errors = dossr(capsys, album, "-o", tmp_path / "blocked", "--recursive", "--bundle", bundle)
    assert (code, len(errors)) == (1, 1)
    assert re.match(r"error: OutputNotWritableError: cannot write .*/deep/p1\.png: Not a directory", errors[0])


def test_timeout(bundle, album, tmp_path, capsys):
    Image.new("RGB", (1600, 1200)).save(album / "p2.png")
    options = ("--bundle", bundle, "--steps", "499", "--timeout", "2")
    code, _, errors = dossr(capsys, album / "p1.png", album / "p2.png", "-o", tmp_path / "out", *options)
    assert code == 1
    assert re.search(
        r"p2\.png: TimeLimitError: the picture is not done after the timeout of 2 s, at (en|de)\w+,", errors[-1]
    )
    code, _, errors = dossr(capsys, album / "p2.png", "-o", tmp_path / "one.png", *options)
    assert (code, len(errors)) == (1, 1)
    assert errors[0].startswith("error: TimeLimitError: ")
    assert not (tmp_path / "one.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "start"),
    [
        (["-o", "OUT"], 2, "error: SettingsError: no INPUT and no --list"),
        (["ALBUM", "-o", "OUT.png"], 1, "error: ImageNotFoundError: ALBUM is a folder; name the image files in it, or"),
        (["ALBUM/*.bmp", "-o", "OUT"], 1, "error: ImageNotFoundError: no file fits the pattern"),
        (
            ["EMPTY", "-o", "OUT"],
            1,
            "error: ImageNotFoundError: there is no picture in EMPTY (files passed over: 1)",
        ),
        ([5000 * "n", "-o", "OUT.png"], 1, "error: ImageNotFoundError: nnn"),
        (["--list", "none", "-o", "OUT"], 1, "error: ImageNotFoundError: the --list none cannot be read"),
        (["ALBUM", "-o", "OUT", "--name", "{title}"], 2, "error: SettingsError: --name {title} has the unknown field"),
        (["ALBUM", "-o", "OUT", "--name", "../{stem}.png"], 2, "error: SettingsError: --name ../{stem}.png gives"),
        (["ALBUM", "-o", "OUT", "--name", "/{stem}.png"], 2, "error: SettingsError: --name /{stem}.png gives"),
        (["ALBUM", "-o", "OUT", "--name", "same.png"], 2, "error: SettingsError: two results would both be written to"),
        (
            ["ALBUM", "-o", "OUT", "--name", "{stem}"],
            1,
            "error: OutputNotWritableError: cannot write OUT/p1: its suffix",
        ),
        (
            ["ALBUM/p1.png", "-o", "OUT.png", "--name", "{stem}.png"],
            2,
            "error: SettingsError: --name is for outputs in",
        ),
        (["ALBUM/p1.png", "-o", "OUT.png", "--resume"], 2, "error: SettingsError: --resume needs a folder"),
        (["ALBUM", "-o", "ALBUM"], 2, "error: SettingsError: the result of ALBUM/p1.png would replace the input"),
        (["ALBUM", "-o", "OUT", "--trace", "t"], 2, "error: SettingsError: --trace takes one input, not 3"),
        (["ALBUM", "-o", "OUT", "--batch", "0"], 2, "error: SettingsError: --batch must be a whole number from 1"),
        (["ALBUM", "-o", "OUT", "--batch", "9"], 2, "error: SettingsError: batch must be a whole number in 1..8"),
        (["ALBUM", "-o", "OUT", "--timeout", "0"], 2, "error: SettingsError: timeout must be a number of seconds"),
        (["ALBUM", "-o", "OUT", "--resume", "--bundle", "none"], 1, "error: BundleNotFoundError: no bundle at none"),
        (["ALBUM", "-o", "OUT/none"], 1, "error: OutputNotWritableError: cannot write OUT/none: there is no folder"),
    ],
)
def test_what_is_refused_before_anything_is_made(bundle, album, tmp_path, capsys, arguments, code, start):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    names = {"ALBUM": album, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}

    def filled(text):
        for name, path in names.items():
            text = text.replace(name, str(path))
        return text

    found, out, errors = dossr(capsys, "--bundle", bundle, *map(filled, arguments))
    assert (found, out, len(errors)) == (code, "", 1), errors
    assert errors[0].startswith(filled(start))
    assert not list(tmp_path.glob("out*/[!.]*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_what_is_finished_is_kept(bundle, album, tmp_path, number):
    out = tmp_path / "out"
    Image.new("RGB", (1600, 1200)).save(album / "p2.png")  # 12 s of work and more in 499 steps
    process = start(album, "-o", out, "--bundle", bundle, "--steps", "499", "--quiet")
    wait_for(process, (out / "p1.png").exists)
    time.sleep(0.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines() == ["interrupted", "1 of 3 pictures are done, and kept"]
    assert files(out) == ["p1.png"]


def test_the_second_ctrl_c_ends_it_at_once(tmp_path):
    """While nothing looks at the control."""
    code = (
        "import time; from runtime.control import Control; from runtime.interrupts import Interrupts\n"
        "with Interrupts() as stops, stops.cancelling(Control()):\n"
        "    print('ready', flush=True); end = time.monotonic() + 60\n"
        "    while time.monotonic() < end: time.sleep(1)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "interrupted\n")


def on_terminal(command, environment=None):
    """What a terminal shows of a command's stderr."""
    ours, theirs = pty.openpty()
    shown = []

    def read():
        try:
            while data := os.read(ours, 4096):
                shown.append(data)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"} | (environment or {})
    done = subprocess.run(
        [sys.executable, "-m", "runtime", *map(str, command)],
        cwd=REPOSITORY,
        stderr=theirs,
        env=environment,
        check=False,
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    return done.returncode, b"".join(shown).decode()


def test_the_bars_of_rich(bundle, album, tmp_path):
    pytest.importorskip("rich")
    Image.new("RGB", (128, 96)).save(album / "p10.png")
    code, shown = on_terminal((album, "-o", tmp_path / "out", "--bundle", bundle, "--steps", "499"))
    assert code == 0
    assert re.search(r"p10\.png .*denoise \d+/499, \d+ s left", shown)
    assert re.search(r"all .*[12] of 3, \d+ s left", shown)
    assert re.search(r"p10\.png -> \S+, 512x384", shown)


def test_the_line_without_rich(bundle, album, tmp_path):
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "rich.py").write_text("raise ImportError('blocked in this test')")
    environment = {"PYTHONPATH": f"{tmp_path / 'blocked'}:{REPOSITORY}"}
    command = (album, "-o", tmp_path / "out", "--bundle", bundle, "--steps", "20")
    code, shown = on_terminal(command, environment)
    assert code == 0
    assert re.search(r"\r\x1b\[K2/3 p2\.png: denoise 7/20, \d+ s left, \d+\.\d s", shown)
    assert "\r\x1b[Kp1.png -> " in shown.replace("\r\x1b[K" * 2, "\r\x1b[K")
    assert on_terminal((*command, "--overwrite", "--quiet"), environment) == (0, "")
