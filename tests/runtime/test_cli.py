"""`python -m runtime` and `dossr`, as processes: files, exit codes, one-line errors, no leftovers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image
from safetensors.numpy import load_file

import runtime
from tests.paths import REPOSITORY
from tests.runtime.odd_images import ramp, vips
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.linear_gradient("L").resize((20, 12)).convert("RGB").save(path)
    return path


def run(*arguments, module="runtime", environment=None):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | (environment or {}),
    )


def failed(done, code, start):
    """One line on stderr, no traceback, the named error and a fix after a semicolon or comma."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(start), lines[0]


def test_one_picture(bundle, photo, tmp_path):
    done = run(photo, "-o", tmp_path / "out.png", "--bundle", bundle, "--max-memory", "4GiB")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "80x48" in done.stderr
    assert "\r" not in done.stderr
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (80, 48)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--tile", "16"], {"tile": 16}),
        (
            ["--tile", "16", "--tile-overlap", "8", "--tile-batch", "2"],
            {"tile": 16, "tile_overlap": 8, "tile_batch": 2},
        ),
        (["--tile", "never"], {"tile": None}),
    ],
)
def test_tiles(bundle, tmp_path, options, settings):
    given = np.random.default_rng(0).integers(0, 255, (12, 50, 3), np.uint8)
    Image.fromarray(given).save(tmp_path / "photo.png")
    done = run(tmp_path / "photo.png", "-o", tmp_path / "out.png", "--bundle", bundle, "--quiet", *options)
    assert done.returncode == 0, done.stderr
    with runtime.Upscaler(bundle) as upscaler:
        expected = np.asarray(upscaler(given, **settings).pixels)
    with Image.open(tmp_path / "out.png") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_tiles_out_of_range(bundle, photo, tmp_path):
    done = run(photo, "-o", tmp_path / "out.png", "--bundle", bundle, "--tile", "9")
    failed(done, 2, 'error: SettingsError: tile must be "auto", "never" (in Python None) or a multiple of 8')


def test_json(bundle, photo, tmp_path):
    done = run(photo, "-o", tmp_path / "out.webp", "--bundle", bundle, "--json", "--scale", "2", "--seed", "7")
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert (report["width"], report["height"], report["seed"]) == (40, 24, 7)
    assert report["timings"]["total"] > 0
    assert report["peak_memory"] > 0
    assert "onnxruntime" in report["engine"]


def test_several_pictures_into_a_folder(bundle, photo, tmp_path):
    other = tmp_path / "other.jpg"
    Image.new("L", (3, 5)).save(other)
    done = run(photo, other, "-o", tmp_path / "out", "--bundle", bundle, "--quiet")  # the folder is made
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["other.png", "photo.png"]


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF")])
def test_format_of_files_in_a_folder(bundle, photo, tmp_path, name, kind):
    done = run(photo, "-o", tmp_path / "out", "--bundle", bundle, "--format", name)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / f"photo.{name}") as image:
        assert image.format == kind


def test_format_that_the_file_name_says_already(bundle, photo, tmp_path):
    assert run(photo, "-o", tmp_path / "out.jpeg", "--bundle", bundle, "--format", "jpg").returncode == 0


def test_quality(bundle, tmp_path):
    photo = tmp_path / "noise.png"
    Image.effect_noise((40, 40), 80).save(photo)
    for quality in ("5", "90"):
        done = run(photo, "-o", tmp_path / f"{quality}.jpg", "--bundle", bundle, "--quality", quality)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "5.jpg").stat().st_size < (tmp_path / "90.jpg").stat().st_size / 2


@pytest.mark.parametrize(("given", "arguments", "bits"), [(8, [], 8), (8, ["16"], 16), (16, [], 16), (16, ["8"], 8)])
def test_bit_depth(bundle, tmp_path, given, arguments, bits):
    photo, out = tmp_path / "photo.png", tmp_path / "out.tif"
    photo.write_bytes(vips(ramp(3, given), ".png"))
    options = ["--bit-depth", *arguments] if arguments else []
    done = run(photo, "-o", out, "--bundle", bundle, "--json", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bit_depth"] == bits
    image = pyvips.Image.new_from_file(str(out))
    assert image.format == {8: "uchar", 16: "ushort"}[bits]
    assert bits == 8 or np.mean(image.numpy() % 257 != 0) > 0.3  # the rest is clamped to 0 or 65535


def test_deep_picture_as_jpeg(bundle, tmp_path):
    photo = tmp_path / "photo.tif"
    photo.write_bytes(vips(ramp(3, 16), ".tif"))
    done = run(photo, "-o", tmp_path / "out.jpg", "--bundle", bundle, "--json")
    assert (done.stderr, json.loads(done.stdout)["bit_depth"]) == ("", 8)


def test_notices(bundle, tmp_path):
    photo = tmp_path / "moving.gif"
    frames = [Image.new("L", (9, 9), value) for value in (10, 100, 200)]
    frames[0].save(photo, save_all=True, append_images=frames[1:])
    notice = f"{photo}: the first of 3 frames is taken"
    done = run(photo, "-o", tmp_path / "a.png", "--bundle", bundle, "--json")
    assert (json.loads(done.stdout)["notices"], done.stderr) == ([notice], notice + "\n")
    done = run(photo, "-o", tmp_path / "b.png", "--bundle", bundle)
    assert done.stderr.splitlines()[0] == notice
    done = run(photo, "-o", tmp_path / "c.png", "--bundle", bundle, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_pyvips_sixteen_bits_are_refused_before_the_bundle_is_opened(photo, tmp_path):
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "pyvips.py").write_text("raise ImportError('blocked in this test')")
    environment = {"PYTHONPATH": str(tmp_path / "blocked")}
    options = ("-o", tmp_path / "out.png", "--bundle", "none", "--bit-depth", "16")
    failed(run(photo, *options, environment=environment), 1, "error: PackageMissingError: 16-bit color needs pyvips")


def test_trace(bundle, photo, tmp_path):
    trace = tmp_path / "trace.safetensors"
    done = run(photo, "-o", tmp_path / "out.png", "--bundle", bundle, "--steps", "3", "--trace", trace)
    assert done.returncode == 0, done.stderr
    tensors = load_file(trace)
    latent, image = (1, 4, 8, 16), (1, 3, 64, 128)
    assert {name: t.shape for name, t in tensors.items()} == {
        "preprocessed": image,
        "latent_mean": latent,
        "latent_std": latent,
        "condition": latent,
        "x0_hat": latent,
        "eps": (3, *latent),
        "pred_x0": (3, *latent),
        "latents": (4, *latent),
        "decoded": image,
        "colorfixed": image,
    }
    with Image.open(tmp_path / "out.png") as picture:
        written = np.asarray(picture)
    expected = np.rint(np.clip(tensors["colorfixed"][0, :, :48, :80], 0, 1) * 255).transpose(1, 2, 0)
    np.testing.assert_array_equal(written, expected.astype(np.uint8))


def test_environment_names_the_bundle(bundle, photo, tmp_path):
    done = run(photo, "-o", tmp_path / "out.png", "--quiet", environment={"DOSSR_BUNDLE": str(bundle)})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "start"),
    [
        (["none.png", "-o", "OUT.png"], 1, "error: ImageNotFoundError: there is no file none.png"),
        (["FOLDER", "-o", "OUT.png"], 1, "error: ImageNotFoundError: "),
        (["TEXT", "-o", "OUT.png"], 1, "error: ImageDecodeError: "),
        (["TRUNCATED", "-o", "OUT.png"], 1, "error: ImageDecodeError: "),
        (["PHOTO", "-o", "OUT.xyz"], 1, "error: OutputNotWritableError: "),
        (["PHOTO", "-o", "FOLDER/none/out.png"], 1, "error: OutputNotWritableError: "),
        (["PHOTO", "-o", "PHOTO"], 2, "error: SettingsError: the result of "),
        (["PHOTO", "-o", "FOLDER/none/folder"], 1, "error: OutputNotWritableError: "),
        (["PHOTO", "-o", "/proc/out.png"], 1, "error: OutputNotWritableError: cannot write /proc/out.png: No such"),
        (["PHOTO", "-o", "FOLDER/" + 300 * "n" + ".png"], 1, "error: OutputNotWritableError: "),
        (["PHOTO", "-o", "OUT.png", "--trace", "FOLDER/none/t"], 1, "error: OutputNotWritableError: "),
        (["PHOTO", "-o", "OUT.png", "--trace", "PHOTO"], 1, "error: OutputExistsError: "),
        (["PHOTO", "-o", "OUT.png", "--trace", "PHOTO", "--overwrite"], 2, "error: SettingsError: --trace would"),
        (
            ["PHOTO", "-o", "OUT.png", "--trace", "FOLDER/../photo.png", "--overwrite"],
            2,
            "error: SettingsError: --trace",
        ),
        (["PHOTO", "-o", "OUT.png", "--trace", "OUT.png"], 2, "error: SettingsError: two results would both be"),
        (["PHOTO", "PHOTO", "-o", "OUT.png"], 2, "error: SettingsError: 2 inputs need a folder"),
        (["PHOTO", "PHOTO", "-o", "FOLDER"], 2, "error: SettingsError: two results would both be written to"),
        (["PHOTO", "PHOTO", "-o", "FOLDER", "--trace", "OUT"], 2, "error: SettingsError: --trace takes one input"),
        (["PHOTO", "-o", "OUT.png", "--device", "cpu", "--provider-option", "a=b"], 2, "error: SettingsError: the CPU"),
        (["PHOTO", "-o", "OUT.png", "--steps", "0"], 2, "error: SettingsError: steps must be in 1..499"),
        (["PHOTO", "-o", "OUT.png", "--steps", "500"], 2, "error: SettingsError: steps must be in 1..499"),
        (["PHOTO", "-o", "OUT.png", "--steps", "x"], 2, "error: SettingsError: argument --steps"),
        (["PHOTO", "-o", "OUT.png", "--order", "4"], 2, "error: SettingsError: order must be 1, 2 or 3"),
        (["PHOTO", "-o", "OUT.png", "--noise", "x"], 2, "error: SettingsError: argument --noise: invalid choice"),
        (["PHOTO", "-o", "OUT.png", "--color-fix", "x"], 2, "error: SettingsError: argument --color-fix"),
        (["PHOTO", "-o", "OUT.png", "--engine", "x"], 2, "error: SettingsError: argument --engine"),
        (["PHOTO", "-o", "OUT.png", "--engine", "tensorrt"], 1, "error: EngineUnavailableError: "),
        (["PHOTO", "-o", "OUT.png", "--device", "x"], 1, "error: EngineUnavailableError: device must be"),
        (["PHOTO", "-o", "OUT.png", "--scale", "0"], 2, "error: SettingsError: scale must be"),
        (["PHOTO", "-o", "OUT.png", "--seed", "-1"], 2, "error: SettingsError: seed must be"),
        (["PHOTO", "-o", "OUT.png", "--max-memory", "much"], 2, "error: SettingsError: 'much' is not a size of memory"),
        (["PHOTO", "-o", "OUT.png", "--max-memory", "1MiB"], 1, "error: MemoryBudgetError: max_memory is 1.0 MiB"),
        (["PHOTO", "-o", "OUT.png", "--threads", "0"], 2, "error: SettingsError: threads must be"),
        (["PHOTO", "-o", "OUT.png", "--provider-option", "x"], 2, "error: SettingsError: --provider-option takes"),
        (
            ["PHOTO", "-o", "OUT.jpg", "--quality", "0"],
            2,
            "error: SettingsError: quality must be a whole number in 1..100",
        ),
        (["PHOTO", "-o", "OUT.jpg", "--quality", "x"], 2, "error: SettingsError: argument --quality"),
        (["PHOTO", "-o", "OUT.png", "--quality", "90"], 2, "error: SettingsError: quality 90 has no meaning for"),
        (["PHOTO", "-o", "FOLDER", "--quality", "90"], 2, "error: SettingsError: quality 90 has no meaning for"),
        (["PHOTO", "-o", "OUT.jpg", "--bit-depth", "16"], 2, "error: SettingsError: cannot write"),
        (["PHOTO", "-o", "OUT.webp", "--bit-depth", "16"], 2, "error: SettingsError: cannot write"),
        (["PHOTO", "-o", "OUT.png", "--bit-depth", "12"], 2, "error: SettingsError: argument --bit-depth"),
        (["PHOTO", "-o", "OUT.png", "--format", "jpg"], 2, "error: SettingsError: --format jpg contradicts --output"),
        (["PHOTO", "-o", "FOLDER", "--format", "gif"], 2, "error: SettingsError: argument --format"),
        (["PHOTO", "-o", "OUT.png", "--unknown"], 2, "error: SettingsError: unrecognized arguments: --unknown"),
        (["PHOTO"], 2, "error: SettingsError: the following arguments are required: -o"),
    ],
)
def test_bad_input_is_one_line(bundle, photo, tmp_path, arguments, code, start):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "text.png").write_text("not a picture")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (folder / "truncated.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    names = {
        "PHOTO": str(photo),
        "OUT": str(folder / "out"),
        "FOLDER": str(folder),
        "TEXT": str(folder / "text.png"),
        "TRUNCATED": str(folder / "truncated.png"),
    }
    replaced = []
    for argument in arguments:
        for name, value in names.items():
            argument = argument.replace(name, value)
        replaced.append(argument)
    before = photo.read_bytes()
    failed(run(*replaced, "--bundle", bundle), code, start)
    assert sorted(p.name for p in folder.iterdir()) == ["text.png", "truncated.png"]
    assert photo.read_bytes() == before


def test_without_a_bundle_the_demo_model_restores(photo, tmp_path):
    done = run(photo, "-o", tmp_path / "out.png", environment={"DOSSR_BUNDLE": ""})
    assert done.returncode == 0, done.stderr
    assert "no --bundle: the small demo model that ships is used" in done.stderr
    assert (tmp_path / "out.png").exists()


def test_no_bundle(photo, tmp_path):
    done = run(photo, "-o", tmp_path / "out.png", "--bundle", tmp_path)
    failed(done, 1, "error: BundleNotFoundError: no bundle at")


def test_nan_leaves_no_file(photo, tmp_path):
    broken = write_tiny_bundle(tmp_path / "broken", output_scales={"denoise": float("nan")})
    done = run(photo, "-o", tmp_path / "out.png", "--bundle", broken, "--trace", tmp_path / "t.safetensors")
    failed(done, 1, "error: NonFiniteError: denoise, step 1 (timestep 499) gave NaN, expected at most 351.1; use")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "photo.png"]


def test_overwrite(bundle, photo, tmp_path):
    out = tmp_path / "out.png"
    out.write_text("old")
    failed(run(photo, "-o", out, "--bundle", bundle), 1, "error: OutputExistsError: ")
    assert out.read_text() == "old"
    assert run(photo, "-o", out, "--bundle", bundle, "--overwrite").returncode == 0
    with Image.open(out) as image:
        assert image.size == (80, 48)


def test_debug_shows_the_traceback(photo, tmp_path):
    done = run(photo, "-o", tmp_path / "out.png", "--bundle", tmp_path, "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_ctrl_c_stops_cleanly(bundle, tmp_path):
    photo = tmp_path / "large.png"
    Image.effect_noise((1600, 1200), 50).convert("RGB").save(photo)
    command = [sys.executable, "-m", "runtime", photo, "-o", tmp_path / "out.png", "--bundle", bundle, "--steps", "499"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    maps = Path(f"/proc/{process.pid}/maps")
    while "onnxruntime" not in maps.read_text():
        assert process.poll() is None, process.stderr.read()  # an ended process has no maps: say why it ended
        time.sleep(0.05)
    time.sleep(1)  # from the library's loading to the middle of 12 seconds of work
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert [p.name for p in tmp_path.iterdir()] == ["large.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--help"], 0, "usage: dossr COMMAND"),
        ([], 0, "usage: dossr COMMAND"),
        (["upscale", "--help"], 0, "usage: dossr upscale"),
        (["bench", "--help"], 0, "--against"),
        (["build", "--help"], 0, "--split-controlnet"),
        (["verify", "--help"], 0, "--reference"),
        (["version"], 0, "."),
        (["paint"], 2, "error: SettingsError: command must be one of upscale"),
    ],
)
def test_dossr(arguments, code, text):
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from runtime.dossr import main; sys.exit(main())", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert text in done.stdout + done.stderr


def test_dossr_upscale(bundle, photo, tmp_path):
    code = "import sys; from runtime.dossr import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "upscale", photo, "-o", tmp_path / "out.png", "--bundle", bundle],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    assert (tmp_path / "out.png").exists()
