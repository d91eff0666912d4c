"""Results written strip by strip are those that are written whole."""

import json
import logging
import resource
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
import pyvips
from PIL import Image

from engines.errors import MemoryBudgetError, OutputError, OutputExistsError, OutputNotWritableError, SettingsError
from runtime.images import blocks, finish_picture, load_picture, tiff_strips
from runtime.images.finish_strips import FinishedRows
from runtime.images.formats import JPEG
from runtime.images.save import save_picture
from runtime.images.strips import open_strips, streams
from runtime.kernels import tensor_from
from tests.paths import REPOSITORY
from tests.runtime.odd_images import GREY_PROFILE, SRGB, exif, ramp

SIZES = [(1, 1), (7, 5), (3, 401), (403, 61)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Small pictures have several blocks."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 3000)


def noise(height, width, channels, bits):
    array = np.random.default_rng(height).integers(0, 2**bits, (height, width, channels), f"uint{bits}")
    array[: height // 2] //= 64  # something that packs
    return array


def write(path, array, *, strips=(1, 5, 64, 3), **options):
    height, width, channels = array.shape
    bits = 8 * array.dtype.itemsize
    with open_strips(path, width=width, height=height, channels=channels, bit_depth=bits, **options) as writer:
        begin, turn = 0, 0
        while writer.rows_left:
            end = min(height, begin + strips[turn % len(strips)])
            writer.write(np.ascontiguousarray(array[begin:end]))
            begin, turn = end, turn + 1


def read(path):
    image = pyvips.Image.new_from_buffer(path.read_bytes(), "", fail_on="warning")
    return image.numpy().reshape(image.height, image.width, image.bands)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_formats_give_the_rows_back_to_two_readers(tmp_path, suffix, bits, channels):
    for width, height in SIZES:
        path, array = tmp_path / f"{width}x{height}{suffix}", noise(height, width, channels, bits)
        write(path, array)
        np.testing.assert_array_equal(read(path), array)
        if bits == 8:
            with Image.open(path) as image:
                np.testing.assert_array_equal(np.asarray(image).reshape(array.shape), array)
    assert len(list(tmp_path.iterdir())) == len(SIZES)


@pytest.mark.parametrize("quality", [None, 40, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_bit_for_bit_the_picture_that_pillow_makes_of_the_whole(tmp_path, channels, quality):
    for width, height in SIZES:
        strips, whole, array = tmp_path / "strips.jpg", tmp_path / "whole.jpg", noise(height, width, channels, 8)
        write(strips, array, quality=quality, overwrite=True)
        save_picture(tensor_from(array), whole, quality=quality, overwrite=True)
        np.testing.assert_array_equal(read(strips), read(whole))
        with Image.open(strips) as ours, Image.open(whole) as theirs:
            assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
@pytest.mark.parametrize("channels", [1, 4])
def test_formats_that_do_not_stream_write_the_same_file(tmp_path, suffix, channels):
    array = noise(41, 30, channels, 8)
    write(tmp_path / f"strips{suffix}", array, quality=50)
    save_picture(tensor_from(array), tmp_path / f"whole{suffix}", quality=50)
    assert (tmp_path / f"strips{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_which_formats_stream(tmp_path):
    assert [streams(tmp_path / f"out{s}") for s in (".png", ".TIF", ".jpeg", ".webp", ".avif")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    with pytest.raises(OutputNotWritableError, match="suffix must be one of"):
        streams(tmp_path / "out.gif")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_profile_and_exif_are_kept_as_by_save(tmp_path, suffix, channels):
    profile = GREY_PROFILE if channels == 1 and suffix != ".webp" else SRGB
    metadata = {"icc_profile": profile, "exif": exif().tobytes()}
    write(tmp_path / f"strips{suffix}", ramp(channels), metadata=metadata)
    save_picture(tensor_from(ramp(channels)), tmp_path / f"whole{suffix}", metadata=metadata)
    with Image.open(tmp_path / f"strips{suffix}") as ours, Image.open(tmp_path / f"whole{suffix}") as theirs:
        assert ours.info["icc_profile"] == profile
        assert dict(ours.getexif()).items() >= dict(exif()).items()
        assert ours.getexif()[0x010F] == theirs.getexif()[0x010F] == "Maker"
        assert (ours.mode, ours.size) == (theirs.mode, theirs.size)


def test_exif_that_jpeg_cannot_hold_is_left_out_with_a_word(tmp_path, caplog):
    tags = Image.Exif()
    tags[0x010F] = "Maker" * 20_000
    with caplog.at_level(logging.WARNING, "dossr"):
        write(tmp_path / "out.jpg", ramp(), metadata={"exif": tags.tobytes()})
    assert "JPEG holds 65533; it is left out" in caplog.text


@pytest.mark.parametrize("bits", [8, 16])
def test_big_tiff(tmp_path, monkeypatch, caplog, bits):
    monkeypatch.setattr(tiff_strips, "CLASSIC_TIFF", 1000)
    path, array = tmp_path / "out.tif", noise(401, 31, 3, bits)
    with caplog.at_level(logging.WARNING, "dossr"):
        write(path, array, metadata={"icc_profile": SRGB, "exif": exif().tobytes()})
    assert path.read_bytes()[:4] == b"II+\0"
    np.testing.assert_array_equal(read(path), array)
    assert "the EXIF is left out" in caplog.text


def test_png_packs_as_well_as_pillow_does(tmp_path, monkeypatch):
    monkeypatch.undo()
    with Image.open(REPOSITORY / "docs" / "photo.png") as photo:
        photo = photo.convert("RGB").resize((1200, 800), Image.Resampling.LANCZOS)
    for name, array in (("photo", np.asarray(photo)), ("flat", np.full((800, 1200, 3), 77, np.uint8))):
        write(tmp_path / f"{name}.png", array, strips=(100,))
        save_picture(tensor_from(array), tmp_path / f"{name}-whole.png")
        ours, theirs = ((tmp_path / f"{name}{end}.png").stat().st_size for end in ("", "-whole"))
        assert ours < 1.1 * theirs


def open_small(path, **changed):
    settings = {"width": 4, "height": 6, "channels": 3, "bit_depth": 8}
    return open_strips(path, **(settings | changed))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("rows", [0, 5])
def test_too_few_rows_leave_nothing(tmp_path, suffix, rows):
    with (
        pytest.raises(OutputError, match=f"{rows} rows were given, the picture has 6; nothing is kept"),
        open_small(tmp_path / f"out{suffix}") as writer,
    ):
        writer.write(np.zeros((rows, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def give_up(path, error):
    with open_small(path, overwrite=True) as writer:
        writer.write(np.zeros((5, 4, 3), np.uint8))
        raise error


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_picture_leaves_what_was_there(tmp_path, suffix, error):
    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    with pytest.raises(error, match="mine"):
        give_up(path, error("mine"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (np.zeros((7, 4, 3), np.uint8), "7 rows were given, the picture has 6; open it with its real height"),
        (np.zeros((1, 5, 3), np.uint8), r"rows were given as B\[1, 5, 3\], expected C-contiguous uint8 .*\[n, 4, 3\]"),
        (np.zeros((1, 4, 1), np.uint8), "expected C-contiguous uint8"),
        (np.zeros((4, 3), np.uint8), "expected C-contiguous uint8"),
        (np.zeros((1, 4, 3), np.uint16), r"given as H\[1, 4, 3\]"),
        (np.zeros((1, 4, 3), np.float32), r"given as f\[1, 4, 3\]"),
        (np.zeros((2, 4, 6), np.uint8)[:, :, ::2], "expected C-contiguous uint8"),
    ],
)
def test_rows_that_do_not_fit(tmp_path, rows, text):
    with open_small(tmp_path / "out.png") as writer:
        with pytest.raises(OutputError, match=text):
            writer.write(rows)
        writer.write(np.zeros((6, 4, 3), np.uint8))
    assert read(tmp_path / "out.png").shape == (6, 4, 3)


@pytest.mark.parametrize(
    ("name", "changed", "error", "text"),
    [
        ("out.gif", {}, OutputNotWritableError, "suffix must be one of"),
        ("out.jpg", {"channels": 4}, OutputNotWritableError, "has alpha and JPEG holds none"),
        ("out.jpg", {"width": 65_501}, OutputNotWritableError, "JPEG holds sides up to 65500"),
        ("out.webp", {"bit_depth": 16}, SettingsError, "WEBP holds 8"),
        ("out.png", {"bit_depth": 12}, SettingsError, "bit_depth must be 8 or 16, not 12"),
        ("out.png", {"width": 0}, SettingsError, "0x6 pixels of 3 channels, expected at least 1x1 of 1 to 4"),
        ("out.png", {"channels": 5}, SettingsError, "4x6 pixels of 5 channels"),
        ("out.png", {"quality": 90}, SettingsError, "quality 90 has no meaning"),
        ("none/out.png", {}, OutputNotWritableError, "choose a folder that exists"),
        ("there.png", {}, OutputExistsError, "pass overwrite=True"),
    ],
)
def test_files_that_are_refused_before_any_row(tmp_path, name, changed, error, text):
    (tmp_path / "there.png").write_text("old")
    with pytest.raises(error, match=text), open_small(tmp_path / name, **changed):
        pass
    assert (tmp_path / "there.png").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_pillow_that_fits_its_tables_to_each_strip_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(JPEG.options, "optimize", True)
    with pytest.raises(OutputNotWritableError, match="fits its tables to every strip; choose another format"):
        write(tmp_path / "out.jpg", noise(401, 31, 3, 8))
    assert list(tmp_path.iterdir()) == []


def run(code):
    head = "import resource, numpy as np\nfrom pathlib import Path\nfrom runtime.images.strips import open_strips\n"
    done = subprocess.run([sys.executable, "-c", head + code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_memory_is_that_of_a_few_strips_and_not_of_the_picture(tmp_path):
    """150 MB of pixels."""
    most = run(f"""
import json
rows = np.zeros((100, 20000, 3), np.uint8)
with open_strips(Path({str(tmp_path / "out.png")!r}), width=20000, height=2500, channels=3, bit_depth=8) as writer:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while writer.rows_left:
        writer.write(rows)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
""")
    assert most < 60 * 1024  # KiB
    with (tmp_path / "out.png").open("rb") as file:
        assert struct.unpack(">II", file.read(24)[16:]) == (20000, 2500)


def test_a_whole_picture_without_memory_for_it_is_named(tmp_path):
    text = run(f"""
import json
from engines.errors import MemoryBudgetError
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    with open_strips(Path({str(tmp_path / "out.avif")!r}), width=30000, height=30000, channels=3, bit_depth=8):
        pass
except MemoryBudgetError as error:
    print(json.dumps(str(error)))
""")
    assert "no memory for 30000x30000 pixels, which AVIF is written from as a whole; write .png, .tif or .jpg" in text
    assert MemoryBudgetError.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(tmp_path):
    """As a limit on the size of files."""
    array = np.random.default_rng(0).integers(0, 256, (400, 100, 3), np.uint8)
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
        for suffix in (".png", ".tif", ".jpg"):
            with pytest.raises(OutputNotWritableError, match="File too large"):
                write(tmp_path / f"out{suffix}", array)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["grey", "rgb", "rgba"])
@pytest.mark.parametrize("scale", [4, 1, 2.5, 6, 0.3, 0.01, 3.999])
def test_strips_are_finished_as_the_whole_is(bits, kind, scale):
    dtype = f"uint{bits}"
    random = np.random.default_rng(bits)
    for width, height in ((1, 1), (17, 13), (10, 150)):
        source = random.integers(0, 2**bits, (height, width, 4), dtype)
        if kind == "grey":
            picture = load_picture(Image.fromarray(source[:, :, 0]))
        else:
            picture = load_picture(np.ascontiguousarray(source[:, :, : len(kind)]))
        pixels = random.integers(0, 2**bits, (4 * height, 4 * width, 1 if kind == "grey" else 3), dtype)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        whole = np.asarray(finish_picture(tensor_from(pixels), picture, size).pixels)
        finished, parts, begin = FinishedRows(picture, (4 * width, 4 * height), size), [], 0
        while begin < 4 * height:
            end = begin + int(random.integers(1, 60))
            parts += [np.asarray(rows) for rows in finished.push(tensor_from(pixels[begin:end]))]
            begin = end
        strips = np.concatenate(parts)
        assert strips.shape == whole.shape
        assert strips.shape[2] == finished.channels
        off = np.abs(strips.astype(int) - whole.astype(int)).max()
        # Lanczos of noise at full contrast; places are float32.
        assert off <= (0 if scale == 4 else 1 if bits == 8 else 3)
