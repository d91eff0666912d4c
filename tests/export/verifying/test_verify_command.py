"""`python -m export.verify`: what it prints and writes, and what it refuses."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import onnx
import pytest
from PIL import Image

from engines.bundle import FileRecord, open_bundle
from engines.cli import run_command
from engines.files import sha256_file
from export.verify import main
from tests import broken
from tests.paths import MINI, REPOSITORY
from tests.tiny import write_tiny_bundle


@pytest.fixture
def tiny(tmp_path):
    return write_tiny_bundle(tmp_path / "tiny")


def command_line(*arguments):
    command = [sys.executable, "-m", "export.verify", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)


def error_of(done):
    assert done.returncode in (1, 2)
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_passes(tiny, tmp_path):
    done = command_line(tiny, "--json", tmp_path / "r.json", "--html", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    assert "onnxruntime-cpu: passed" in done.stdout
    assert "denoise 5 (t 100)" in done.stdout
    assert "PSNR infinite: equal" in done.stdout
    assert "this cannot show wrong weights" in done.stdout
    assert all(len(line) <= 250 for line in done.stdout.splitlines())
    check_json(json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail))
    check_html((tmp_path / "r.html").read_text())


def test_the_manifest_keeps_a_summary(tiny):
    before = open_bundle(tiny).manifest
    assert main([str(tiny), "--quiet", "--steps", "2", "--order", "1", "--seed", "7"]) == 0
    after = open_bundle(tiny).manifest
    assert dataclasses.replace(after, verified={}) == before
    found = after.verified
    assert found["passed"] is True
    assert found["seed"] == 7
    assert found["plan"] == {"solver": "dos-sde", "steps": 2, "order": 1}
    assert found["latent"] == [16, 24]
    engine = found["engines"]["onnxruntime-cpu"]
    assert set(engine["graphs"]) == {"preprocess", "encode", "denoise", "decode"}
    assert engine["graphs"]["denoise"] == {"deviation": 0.0, "cosine": 1.0, "difference": 0.0}
    assert engine["first_departures"] == []
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["when"])
    assert main([str(tiny), "--quiet"]) == 0  # a summary is replaced
    assert open_bundle(tiny).manifest.verified["plan"]["steps"] == 5


def test_no_write_leaves_the_bundle(tiny):
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    assert main([str(tiny), "--quiet", "--no-write"]) == 0
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*")} == before


def test_a_wrong_engine_is_an_error_with_everything_written(tmp_path, mini_bundle):
    wrong = broken.with_zeroed_weight(mini_bundle, tmp_path / "wrong", "decode", "vae.decoder.conv_in.weight")
    checkpoint = ("--checkpoint", MINI / "model.ckpt", "--config", MINI / "config.yaml")
    done = command_line(
        *(wrong, *checkpoint, "--context", MINI / "context.safetensors", "--steps", 1, "--order", 1),
        *("--json", tmp_path / "r.json", "--html", tmp_path / "r.html"),
    )
    assert done.returncode == 1
    line = error_of(done)
    assert line.startswith(
        "error: EngineDepartsError: canonical, graph decode: the first tensor that departs is conv2d"
    )
    assert "module vae.decoder.conv_in)" in line
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["passed"] is False
    assert [engine["passed"] for engine in report["engines"]] == [False, False]
    departure = report["engines"][0]["failures"][0]["departure"]
    assert departure["module"] == "vae.decoder.conv_in"
    page = (tmp_path / "r.html").read_text()
    check_html(page)
    assert "vae.decoder.conv_in" in page
    assert open_bundle(wrong).manifest.verified["engines"]["canonical"]["first_departures"] == [
        {"graph": "decode", "tensor": departure["tensor"], "module": "vae.decoder.conv_in"}
    ]


def test_an_engine_that_cannot_run_is_reported(tiny, tmp_path):
    """A lowered file that the engine refuses; the others are still judged."""
    manifest = open_bundle(tiny).manifest
    entry = manifest.graphs["decode"]
    model = onnx.load(tiny / entry.file)
    model.graph.node[0].op_type = "NoSuchOperator"
    path = tiny / "onnx/decode/model.onnxruntime-cpu.onnx"
    onnx.save(model, path)
    relative = path.relative_to(tiny).as_posix()
    graphs = dict(manifest.graphs) | {"decode": dataclasses.replace(entry, lowered={"onnxruntime-cpu": relative})}
    files = dict(manifest.files) | {relative: FileRecord(sha256=sha256_file(path), size=path.stat().st_size)}
    dataclasses.replace(manifest, graphs=graphs, files=files).write(tiny)
    other = write_tiny_bundle(tmp_path / "other")
    done = command_line(tiny, "--reference", other, "--json", tmp_path / "r.json")
    line = error_of(done)
    assert line.startswith("error: EngineDepartsError: onnxruntime-cpu could not be run (")
    assert "NoSuchOperator" in line
    assert "canonical: passed" in done.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert "NoSuchOperator" in report["engines"][1]["error"]
    verified = open_bundle(tiny).manifest.verified
    assert [engine["ran"] for engine in verified["engines"].values()] == [True, False]
    assert str(tmp_path) not in json.dumps(verified)


def test_engines_can_be_chosen(tiny, tmp_path):
    other = write_tiny_bundle(tmp_path / "other")
    done = command_line(tiny, "--reference", other, "--engine", "canonical")
    assert done.returncode == 0
    assert "canonical: passed" in done.stdout
    assert "onnxruntime-cpu" not in done.stdout


def test_a_picture_of_ones_own(tiny, tmp_path):
    Image.effect_noise((50, 20), 60).convert("RGB").save(tmp_path / "p.png")
    done = command_line(tiny, "--image", tmp_path / "p.png", "--no-search")
    assert done.returncode == 0, done.stderr
    assert "50x20 pixels, p.png, latent 16x32" in done.stdout
    assert "compared by samples" not in done.stdout


def test_a_static_bundle_takes_its_own_size(tmp_path):
    tiny = write_tiny_bundle(tmp_path / "tiny", static=(8, 24))
    done = command_line(tiny)
    assert done.returncode == 0, done.stderr
    assert "latent 8x24" in done.stdout


def test_the_condition_s_own_encoder(tmp_path):
    done = command_line(write_tiny_bundle(tmp_path / "tiny", separate_condition=True))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  condition +0\.00e\+00", done.stdout, re.MULTILINE)


def test_dossr_verify_is_the_same_command(tiny):
    code = "import sys; from runtime.dossr import main; sys.argv[0] = 'dossr'; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", str(tiny), "--quiet"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "onnxruntime-cpu: passed" in done.stdout


def test_without_torch(tiny):
    """Where no checkpoint is given, torch is not needed."""
    code = (
        "import sys; sys.modules['torch'] = None; from export.verify import main; "
        f"sys.exit(main([{str(tiny)!r}, '--quiet', '--no-write']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_torch_a_checkpoint_is_refused(tiny):
    code = (
        "import sys; sys.modules['torch'] = None; from engines.cli import run_command; from export.verify import main; "
        f"sys.exit(run_command(main, [{str(tiny)!r}, '--quiet', '--checkpoint', {str(MINI / 'model.ckpt')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert error_of(done).startswith("error: PackageMissingError: --checkpoint needs torch")


REFUSED = [
    (["--seed", "-1"], "SettingsError: --seed must be 0 or more"),
    (["--threads", "0"], "SettingsError: --threads must be 1 to 1024"),
    (["--steps", "0"], "SettingsError: "),
    (["--engine", "nonesuch"], "SettingsError: no engine nonesuch can be judged here, expected onnxruntime-cpu"),
    (["--config", MINI / "config.yaml"], "SettingsError: --config and --context belong to a checkpoint"),
    (["--checkpoint", "nowhere.ckpt"], "CheckpointNotFoundError: cannot read --checkpoint nowhere.ckpt"),
    (["--reference", "nowhere"], "BundleNotFoundError: no bundle at nowhere"),
    (["--image", "nowhere.png"], "ImageNotFoundError: cannot read --image nowhere.png"),
    (["--image", "README.md"], "ImageDecodeError: README.md is not a picture"),
    (["--json", "nowhere/r.json"], "OutputNotWritableError: cannot write nowhere/r.json"),
    (
        ["--checkpoint", MINI / "model.ckpt", "--reference", "nowhere"],
        "SettingsError: give either --checkpoint FILE or --reference DIR",
    ),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[" ".join(map(str, case[0])) for case in REFUSED])
def test_refused(tiny, options, words, capsys):
    assert run_command(main, [str(tiny), "--quiet", *map(str, options)]) in (1, 2)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {words}")


def test_no_bundle(tmp_path):
    assert "BundleNotFoundError" in error_of(command_line(tmp_path / "none"))


def test_a_damaged_bundle(tiny):
    with (tiny / "onnx/decode/model.onnx").open("ab") as file:
        file.write(b" ")
    assert "BundleHashError" in error_of(command_line(tiny))


def test_a_picture_that_is_too_large(tmp_path):
    tiny = write_tiny_bundle(tmp_path / "tiny", static=(8, 8))
    Image.new("RGB", (40, 16)).save(tmp_path / "p.png")
    line = error_of(command_line(tiny, "--image", tmp_path / "p.png"))
    assert "ImageTooLargeError: the picture is 40x16, this bundle takes at most 16x16" in line


def test_a_reference_of_half_precision(tiny, mini_bundle_fp16):
    line = error_of(command_line(tiny, "--reference", mini_bundle_fp16))
    assert line.startswith("error: SettingsError: --reference")
    assert "is a bundle of fp16, expected fp32" in line


def test_a_reference_of_other_graphs(tiny, tmp_path):
    other = write_tiny_bundle(tmp_path / "other", separate_condition=True)
    assert "has the graphs condition, decode" in error_of(command_line(tiny, "--reference", other))


def test_a_reference_that_is_not_finite(tmp_path):
    tiny = write_tiny_bundle(tmp_path / "tiny", output_scales={"denoise": math.nan})
    line = error_of(command_line(tiny))
    assert "NonFiniteError: the reference itself gives NaN or infinity in output of denoise, step 1" in line


def test_a_folder_that_cannot_be_written(tiny, monkeypatch):
    from engines.errors import OutputNotWritableError
    from export.verifying import summary

    def refuse(path):
        raise OutputNotWritableError(f"cannot write {path}: Read-only file system")

    monkeypatch.setattr(summary, "check_writable", refuse)  # tests may run as root, who may write anywhere
    with pytest.raises(OutputNotWritableError, match="or pass --no-write to leave the bundle as it is"):
        main([str(tiny), "--quiet"])
    assert main([str(tiny), "--quiet", "--no-write"]) == 0


def test_another_checkpoint_is_noted(tmp_path, mini_bundle):
    copy = tmp_path / "copy"
    shutil.copytree(mini_bundle, copy)
    manifest = open_bundle(copy).manifest
    dataclasses.replace(manifest, checkpoint=dict(manifest.checkpoint) | {"sha256": "0" * 64}).write(copy)
    options = ["--checkpoint", MINI / "model.ckpt", "--config", MINI / "config.yaml", "--steps", 1, "--order", 1]
    done = command_line(copy, *options, "--context", MINI / "context.safetensors", "--no-search")
    assert done.returncode == 0, done.stderr
    assert "NOTE: the bundle was not exported from model.ckpt, by its sha256" in done.stdout


def check_json(report):
    """The fields that readers may count on."""
    assert report["schema"] == 1
    assert report["passed"] is True
    assert report["graphs"] == ["preprocess", "encode", "denoise", "decode"]
    assert isinstance(report["tools"]["onnxruntime"], str)
    [engine] = report["engines"]
    assert engine["name"] == "onnxruntime-cpu"
    assert set(engine) == {
        *(
            "name",
            "description",
            "gate",
            "comparisons",
            "within",
            "picture",
            "picture_gate",
            "failures",
            "notes",
            "error",
        ),
        *("seconds", "passed"),
    }
    assert set(engine["picture"]) == {"psnr", "ssim", "max_abs"}
    by_mode = {}
    for one in engine["comparisons"]:
        assert set(one) == {"mode", "graph", "step", "timestep", "output", "figures", "passed"}
        assert set(one["figures"]) == {"max_abs", "mean_abs", "deviation", "cosine", "nan", "inf"}
        by_mode.setdefault(one["mode"], []).append((one["graph"], one["step"], one["output"]))
    calls = [("preprocess", None, "preprocessed"), ("encode", None, "latent_mean"), ("encode", None, "latent_std")]
    calls += [("denoise", step, "output") for step in range(1, 6)] + [("decode", None, "image")]
    assert by_mode["teacher-forced"] == calls
    assert by_mode["free-running"] == [*calls, *(("solver", step, "x") for step in range(6))]


class Balance(HTMLParser):
    """Whether every element is closed in order, and what the page refers to."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self):
        super().__init__()
        self.open, self.references, self.tags = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_html(text):
    """Well-formed, and nothing is fetched from anywhere."""
    parser = Balance()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert parser.references
    assert all(reference.startswith(("data:image/png;base64,", "#")) for reference in parser.references)
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text
    assert not {"script", "link", "iframe"} & parser.tags
    assert {"svg", "img", "table"} <= parser.tags
    assert "prefers-color-scheme: dark" in text
