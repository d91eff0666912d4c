"""Exports that stop, and go on: by a signal, kill -9, a full disk. One export of e2e_mini is carried through all of
them; what has to be refused is tried on copies of its folder."""

import dataclasses
import errno
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from engines.bundle import Precision, open_bundle
from engines.errors import OutputNotWritableError
from export import bundle
from export.errors import OutputBusyError
from export.progress import Silent
from export.settings import BuildSettings
from export.workspace import workspace
from tests.paths import MINI, REPOSITORY
from tests.tiny import write_tiny_bundle

INPUTS = {"checkpoint": MINI / "model.ckpt", "config": MINI / "config.yaml", "context": MINI / "context.safetensors"}


def settings(out, **changed):
    return BuildSettings(**{"precision": Precision.FP32, "out": out, **INPUTS, **changed})


def start(out):
    options = [word for name, path in INPUTS.items() for word in (f"--{name}", str(path))]
    command = [sys.executable, "-m", "export.build", *options, "--precision", "fp32", "--out", str(out)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stopped(out, line, number):
    """An export that is sent a signal half a second after it wrote the line: its exit code and what it wrote."""
    process = start(out)
    seen = []
    for text in process.stderr:
        seen.append(text)
        if line in text:
            break
    time.sleep(0.5)
    process.send_signal(number)
    rest = process.stderr.read()
    process.stdout.close()
    return process.wait(60), "".join(seen), rest


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def stage(self, name, done):
        self.lines.append(name)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(scope="module")
def stopped_out(tmp_path_factory):
    """The output of an export that was ended by SIGTERM in its second graph, then by SIGKILL in its third."""
    out = tmp_path_factory.mktemp("resume") / "new" / "bundle"
    folder = out.parent / ".bundle.resume"
    code, _, rest = stopped(out, "encode: exporting", signal.SIGTERM)
    assert code == 130
    interrupted, note = rest.splitlines()[-2:]
    assert interrupted == "interrupted"
    assert note == f"run the same command again to go on from 1 finished graphs, kept in {folder}"
    assert "Traceback" not in rest
    assert names(out.parent) == [".bundle.resume"]
    assert names(folder) == ["bundle", "lock", "preprocess.json"]
    assert names(folder / "bundle/onnx") == ["preprocess"]

    code, seen, _ = stopped(out, "denoise: exporting", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert "preprocess: kept from the build before" in seen
    assert "preprocess: exporting" not in seen
    assert names(out.parent) == [".bundle.resume"]
    assert {"encode.json", "preprocess.json"} <= set(names(folder))
    return out


@pytest.fixture
def copied_out(stopped_out, tmp_path):
    shutil.copytree(stopped_out.parent / ".bundle.resume", tmp_path / ".bundle.resume")
    return tmp_path / "bundle"


class Full:
    """A disk that is full when a graph is written; notes which."""

    def __init__(self, monkeypatch):
        self.tried = []
        monkeypatch.setattr(bundle, "export_graph", self)

    def __call__(self, module, spec, axes, folder, static):
        self.tried.append(spec.name)
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")


def tried(monkeypatch, wanted):
    """(lines, the graph that is the first to be exported, the error) of an export that fails there."""
    full, lines = Full(monkeypatch), Lines()
    with pytest.raises(OSError, match="No space left") as caught:
        bundle.build(wanted, lines)
    assert len(full.tried) == 1
    return lines.lines, full.tried[0], caught.value


def test_goes_on_where_it_stopped(stopped_out, copied_out, monkeypatch):
    folder = copied_out.parent / ".bundle.resume"
    lines, first, error = tried(monkeypatch, settings(copied_out))
    assert first == "denoise"
    assert [line for line in lines if "kept" in line] == [
        "preprocess: kept from the build before",
        "encode: kept from the build before",
    ]
    assert error.__notes__ == [f"run the same command again to go on from 2 finished graphs, kept in {folder}"]
    assert names(folder) == ["bundle", "encode.json", "lock", "preprocess.json"], "nothing half-written"

    monkeypatch.undo()
    lines = Lines()
    manifest = bundle.build(settings(copied_out), lines)
    assert [line for line in lines.lines if "exporting" in line] == ["denoise: exporting", "decode: exporting"]
    assert names(copied_out.parent) == ["bundle"]
    assert open_bundle(copied_out).manifest == manifest
    assert set(manifest.files) == {
        p.relative_to(copied_out).as_posix() for p in copied_out.glob("onnx/*/*") if p.is_file()
    }
    kept = json.loads((stopped_out.parent / ".bundle.resume/encode.json").read_text())
    assert kept["files"].items() <= {k: dataclasses.asdict(v) for k, v in manifest.files.items()}.items()
    assert manifest.graphs["encode"].verification == kept["entry"]["verification"]


@pytest.mark.parametrize(
    "changed",
    [
        {"precision": Precision.FP16},
        {"prediction": "v"},
        {"static": (16, 16)},
        {"split_controlnet": True},
        {"config": "changed"},
        {"resume": False},
    ],
    ids=str,
)
def test_not_after_a_change_of_settings(copied_out, monkeypatch, changed):
    if "config" in changed:
        changed = {"config": copied_out.parent / "config.yaml"}
        changed["config"].write_text((MINI / "config.yaml").read_text() + "# changed\n")
    lines, first, error = tried(monkeypatch, settings(copied_out, **changed))
    assert first == "preprocess"
    assert not any("kept" in line for line in lines)
    assert not hasattr(error, "__notes__")
    assert not (copied_out.parent / ".bundle.resume").exists()


@pytest.mark.parametrize("name", ["code", "tools", "checkpoint", "schedule", "scale_factor"])
def test_not_of_another_key(copied_out, monkeypatch, name):
    """What cannot be changed here is changed in the record."""
    record = copied_out.parent / ".bundle.resume/preprocess.json"
    noted = json.loads(record.read_text())
    noted["key"][name] = "other"
    record.write_text(json.dumps(noted))
    lines, first, _ = tried(monkeypatch, settings(copied_out))
    assert first == "preprocess"
    assert "1 graphs of another build, or damaged, are not used again" in lines


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "first"),
    [
        (lambda f: flip(f / "bundle/onnx/preprocess/model.onnx.data"), "preprocess"),
        (lambda f: flip(f / "bundle/onnx/encode/model.onnx"), "encode"),
        (lambda f: (f / "bundle/onnx/encode/model.onnx.data").unlink(), "encode"),
        (lambda f: (f / "bundle/onnx/encode/more").write_text("foreign"), "encode"),
        (lambda f: (f / "encode.json").unlink(), "encode"),
        (lambda f: (f / "encode.json").write_text("{"), "encode"),
        (lambda f: (f / "encode.json").write_text("[]"), "encode"),
    ],
)
def test_not_what_was_damaged(copied_out, monkeypatch, damage, first):
    damage(copied_out.parent / ".bundle.resume")
    assert tried(monkeypatch, settings(copied_out))[1] == first


def test_one_export_an_output(tmp_path):
    out = tmp_path / "bundle"
    with workspace(out) as space:
        kept = names(space.folder)
        with pytest.raises(OutputBusyError, match=r"another export \(process \d+, lock .*lock\); wait"), workspace(out):
            pass
        process = start(out)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 1
        assert said.splitlines()[-1].startswith(f"error: OutputBusyError: {out} is being written by another export")
        assert names(space.folder) == kept
    assert not list(tmp_path.iterdir())
    with workspace(out):
        assert (tmp_path / ".bundle.resume").is_dir()


def test_killed_between_the_two_renames(tmp_path):
    """The bundle of before stands in the workspace, and comes back."""
    out = tmp_path / "bundle"
    write_tiny_bundle(tmp_path / ".bundle.resume" / "old")
    with pytest.raises(KeyboardInterrupt), workspace(out):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["bundle"]
    assert open_bundle(out)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / ".bundle.resume").write_text("a file")
    with pytest.raises(OutputNotWritableError, match="choose an --out"), workspace(tmp_path / "bundle"):
        pass
    assert (tmp_path / ".bundle.resume").read_text() == "a file"
