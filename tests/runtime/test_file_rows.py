"""Pictures that are written as they are made: the file is `Result.save`'s, or not there."""

import json

import numpy as np
import pytest
from PIL import Image, ImageCms

import runtime
from engines.cli import run_command
from engines.errors import EngineError, OutputExistsError, OutputNotWritableError, SettingsError
from runtime.cli import main
from runtime.file_rows import FileRows
from runtime.images import load_picture
from runtime.journal import NAME
from runtime.kernels import Tensor
from tests.tiny import write_tiny_bundle

TILES = {"tile": 16, "tile_overlap": 8}
"""Of 128 pixels of the result; pictures up to 32x32 are whole."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def upscaler(bundle):
    with runtime.Upscaler(bundle) as upscaler:
        yield upscaler


def photo(width=90, height=60, seed=0, channels=3, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype)


def pixels(path):
    return np.asarray(memoryview(load_picture(path).pixels))


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image), dict(image.info)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("tile", [TILES, {"tile": None}], ids=["tiles", "whole"])
def test_the_file_is_the_one_of_the_result(tmp_path, upscaler, suffix, tile):
    channels = 3 if suffix == ".jpg" else 4
    image = Image.fromarray(photo(channels=channels))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    image.save(tmp_path / "given.png", icc_profile=profile, exif=exif)
    report = upscaler.write(tmp_path / "given.png", tmp_path / f"written{suffix}", steps=1, **tile)
    result = upscaler(tmp_path / "given.png", steps=1, **tile)
    result.save(tmp_path / f"saved{suffix}")
    (written, info), (saved, expected) = (opened(tmp_path / f"{name}{suffix}") for name in ("written", "saved"))
    assert np.array_equal(written, saved)
    assert info.get("icc_profile") == expected.get("icc_profile") == profile
    assert report.metadata.keys() == {"icc_profile", "exif"}
    assert report.engine == result.engine
    assert report.seed == 42


def test_depth_and_scale(tmp_path, upscaler):
    given = photo(dtype=np.uint16)
    upscaler.write(given, tmp_path / "deep.png", steps=1, scale=2.5, **TILES)
    expected = np.asarray(memoryview(upscaler(given, steps=1, scale=2.5, **TILES).pixels)).astype(int)
    assert np.abs(pixels(tmp_path / "deep.png") - expected).max() <= 3
    upscaler.write(given, tmp_path / "flat.png", steps=1, bit_depth=8, **TILES)
    assert pixels(tmp_path / "flat.png").dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("there.png", {}, OutputExistsError),
        ("there.png", {"tile": None}, OutputExistsError),
        ("none/file.png", {}, OutputNotWritableError),
        ("file.bmp", {}, OutputNotWritableError),
        ("file.png", {"quality": 50}, SettingsError),
        ("file.png", {"scale": 0}, SettingsError),
        ("file.png", {"tile": 17}, SettingsError),
    ],
)
def test_what_cannot_be_written(tmp_path, upscaler, name, settings, error):
    (tmp_path / "there.png").write_bytes(b"mine")
    told = []
    with pytest.raises(error):
        upscaler.write(photo(), tmp_path / name, on_progress=told.append, **{"steps": 1} | TILES | settings)
    assert not told, "before any work"
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]
    assert (tmp_path / "there.png").read_bytes() == b"mine"


def test_an_error_on_the_way_leaves_nothing(tmp_path, upscaler, monkeypatch):
    def lost(_rows, _pixels):
        raise EngineError("lost")

    monkeypatch.setattr(FileRows, "write", lost)
    with pytest.raises(EngineError, match="lost"):
        upscaler.write(photo(), tmp_path / "file.png", steps=1, **TILES)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_begins_again(tmp_path):
    picture = load_picture(photo(8, 8))
    with FileRows(tmp_path / "file.png", picture) as rows:
        rows.begin((32, 32, 3), "uint8", {})
        rows.write(Tensor((10, 32, 3), "uint8"))
        rows.begin((32, 32, 3), "uint8", {})
        whole = Tensor((32, 32, 3), "uint8")
        whole.copy_from(photo(32, 32))
        rows.write(whole)
    assert np.array_equal(pixels(tmp_path / "file.png"), photo(32, 32))
    assert [path.name for path in tmp_path.iterdir()] == ["file.png"]


@pytest.fixture
def folder(tmp_path):
    """Two pictures that are cut, two that are not, and one that cannot be read."""
    made = tmp_path / "given"
    made.mkdir()
    for name, size in {"a": (90, 60), "b": (20, 20), "c": (20, 20), "d": (60, 90)}.items():
        Image.fromarray(photo(*size, seed=ord(name))).save(made / f"{name}.png")
    (made / "e.png").write_bytes(b"none")
    return made


def command(*arguments):
    return run_command(main, [str(argument) for argument in arguments])


def test_folders_with_pictures_in_tiles(tmp_path, bundle, upscaler, folder, capsys):
    options = ["--bundle", bundle, "--steps", 1, "--tile", 16, "--tile-overlap", 8]
    code = command(folder, "-o", tmp_path / "out", "--json", "--resume", "--batch", 2, *options)
    assert code == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["input"].rpartition("/")[2]: (line.get("width"), line.get("error")) for line in lines} == {
        "a.png": (360, None),
        "b.png": (80, None),
        "c.png": (80, None),
        "d.png": (240, None),
        "e.png": (None, "ImageDecodeError"),
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [NAME, "a.png", "b.png", "c.png", "d.png"]
    for name in "abcd":
        expected = upscaler(folder / f"{name}.png", steps=1, **TILES)
        assert np.array_equal(pixels(tmp_path / "out" / f"{name}.png"), np.asarray(memoryview(expected.pixels)))
    assert command(folder, "-o", tmp_path / "out", "--json", "--resume", *options) == 1
    assert [json.loads(line).get("skipped") for line in capsys.readouterr().out.splitlines()].count("finished") == 4


def test_one_picture_in_tiles(tmp_path, bundle, upscaler, folder, capsys):
    options = ["--bundle", bundle, "--steps", 1, "--tile", 16, "--tile-overlap", 8]
    assert command(folder / "a.png", "-o", tmp_path / "a.png", "--json", *options) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["width"], line["height"], line["bit_depth"]) == (360, 240, 8)
    expected = upscaler(folder / "a.png", steps=1, **TILES)
    assert np.array_equal(pixels(tmp_path / "a.png"), np.asarray(memoryview(expected.pixels)))
    assert command(folder / "a.png", "-o", tmp_path / "a.png", *options) == 1
    assert "OutputExistsError" in capsys.readouterr().err


def test_plans_of_a_folder(tmp_path, bundle, folder, capsys):
    options = ["--bundle", bundle, "--steps", 1, "--tile", 16, "--tile-overlap", 8, "--plan"]
    assert command(folder, "-o", tmp_path / "out", *options) == 1
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["a.png", "b.png", "c.png", "d.png"]
    assert lines[0].startswith("a.png: 90x60: 15 tiles of 16x16, 1 at a time; 1 steps, ")
    assert lines[1].startswith("b.png: 20x20: ")
    assert all("time not known" not in line for line in lines)
    assert "1 of 5 pictures failed" in told.err
    assert "e.png: ImageDecodeError" in told.err
    assert not (tmp_path / "out").exists()
    assert command(folder / "a.png", "--json", *options) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["tiles"], plan["tile"], plan["width"]) == (15, [16, 16], 90)
    assert command(folder / "a.png", *options[:-1]) == 2
    assert "required: -o/--output" in capsys.readouterr().err


def test_its_folder(tmp_path):
    picture = load_picture(photo(8, 8))
    with FileRows(tmp_path / "new" / "folder" / "file.png", picture, make_folder=True) as rows:
        rows.begin((32, 32, 3), "uint8", {})
        rows.write(Tensor((32, 32, 3), "uint8"))
    assert (tmp_path / "new" / "folder" / "file.png").is_file()
    (tmp_path / "file").write_bytes(b"")
    rows = FileRows(tmp_path / "file" / "file.png", picture, make_folder=True)
    with pytest.raises(OutputNotWritableError, match=r"cannot make the folder .*file: .*; choose another place"):
        rows.begin((32, 32, 3), "uint8", {})


@pytest.mark.parametrize("name", ["a.png", "a"])
def test_an_input_is_not_replaced(tmp_path, bundle, folder, capsys, name):
    given = (folder / "a.png").read_bytes()
    output = folder if name == "a" else folder / name
    assert command(folder / "a.png", "-o", output, "--overwrite", "--bundle", bundle) == 2
    assert "would replace the input" in capsys.readouterr().err
    assert (folder / "a.png").read_bytes() == given
