"""Results at both depths: buffers, the final resize, files and what they refuse, and life without pyvips."""

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image

import runtime
from engines.errors import (
    ImageDecodeError,
    ImageNotFoundError,
    ImageTooLargeError,
    OutputExistsError,
    OutputNotWritableError,
    PackageMissingError,
    SettingsError,
)
from runtime.images import check_output, finish_picture, load_picture, save_picture
from runtime.images.tiff_exif import add_exif
from runtime.images.vips import load_pyvips, read_deep, write_deep
from runtime.kernels import Tensor, tensor_from
from tests.paths import REPOSITORY
from tests.runtime.odd_images import GREY_PROFILE, SRGB, encoded, exif, pil, png, ramp, vips
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    """A decoder of zeros: with the color fix, results are the input's low frequencies."""
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bundle"), output_scales={"decode": 0.0})
    with runtime.Upscaler(bundle) as opened:
        yield opened


@pytest.fixture
def no_pyvips(monkeypatch):
    """As where it is not installed: the import raises ModuleNotFoundError."""
    monkeypatch.setitem(sys.modules, "pyvips", None)


def is_really_deep(pixels):
    """Whether values lie between those of 8 bits."""
    return pixels.dtype == np.uint16 and np.mean(pixels % 257 != 0) > 0.5


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("wrap", [lambda a: a, torch.from_numpy, tensor_from, lambda a: a.transpose(1, 0, 2)])
def test_sixteen_bit_buffers_give_sixteen_bits_back(upscaler, channels, wrap):
    array = ramp(channels, 16)
    source = wrap(array)
    height, width = source.shape[:2]
    result = upscaler(source, steps=1)
    assert isinstance(result.image, runtime.Image8)
    assert result.image is result.pixels
    pixels = np.from_dlpack(result.image)
    assert pixels.shape == (4 * height, 4 * width, channels)
    assert is_really_deep(pixels[:, :, :3])
    assert np.abs(pixels.mean(axis=(0, 1)) - array.mean(axis=(0, 1))).max() < 0.05 * 65535


def test_api_gives_the_depth_of_the_buffer(upscaler, tmp_path, monkeypatch):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    assert runtime.upscale(ramp(3, 16), bundle=bundle, steps=1).dtype == "uint16"
    assert runtime.upscale(ramp(3), bundle=bundle, steps=1).dtype == "uint8"
    assert runtime.upscale(pil(ramp(1, 16)), bundle=bundle, steps=1).mode == "I;16"
    runtime.close()


@pytest.mark.parametrize("kind", ["I;16", "I;16B", "I", "F"])
def test_pil_images_of_deep_grey(upscaler, kind):
    deep = pil(ramp(1, 16))
    image = {
        "I;16": deep,
        "I;16B": Image.frombytes("I;16B", deep.size, ramp(1, 16).astype(">u2").tobytes()),
        "I": deep.convert("I"),
        "F": Image.fromarray((ramp(1, 16)[:, :, 0] / 65535).astype(np.float32)),
    }[kind]
    assert image.mode == kind
    picture = load_picture(image)
    np.testing.assert_array_equal(np.asarray(picture.pixels), ramp(1, 16))
    assert upscaler(image, steps=1).image.mode == "I;16"


def test_bit_depth_of_the_result(upscaler):
    deep = upscaler(ramp(3), steps=1, bit_depth=16)
    assert is_really_deep(np.asarray(deep.pixels)), (
        "more than the input's 8 bits, because the network's result has more"
    )
    plain = upscaler(ramp(4, 16), steps=1, bit_depth=8)
    assert (plain.pixels.dtype, plain.pixels.shape[2]) == ("uint8", 4)
    for wrong in (12, "16", 16.0, True):
        with pytest.raises(SettingsError, match="bit_depth must be 8 or 16, not"):
            upscaler(ramp(3), bit_depth=wrong)


@pytest.mark.parametrize("scale", [1, 2.5, 6])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_final_resize_keeps_sixteen_bits(upscaler, tmp_path, scale, channels):
    path = tmp_path / "deep.png"
    path.write_bytes(vips(ramp(channels, 16), ".png"))
    whole, resized = (np.asarray(upscaler(path, steps=1, scale=s).pixels) for s in (4, scale))
    height, width = (max(1, round(side * scale)) for side in ramp().shape[:2])
    assert resized.shape == (height, width, channels)
    assert is_really_deep(resized)
    for c in range({1: 1, 2: 1, 3: 3, 4: 3}[channels]):
        reference = Image.fromarray(whole[:, :, c].astype(np.float32)).resize((width, height), Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(reference) - resized[:, :, c]).max() <= 1.5  # rounded twice: after rows and columns


def test_sixteen_bit_alpha_does_not_wrap():
    alpha = np.zeros((8, 8, 4), np.uint16)
    alpha[:, 4:] = 65535
    picture = load_picture(alpha)
    pixels = np.asarray(finish_picture(Tensor((32, 32, 3), "uint16"), picture, (32, 32)).pixels)[:, :, 3].astype(int)
    assert pixels[:, :8].max() < 3000
    assert pixels[:, 24:].min() > 62000


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 16), (".tif", 16), (".tiff", 16), (".jpg", 8), (".webp", 8)])
def test_without_a_depth_the_format_decides(tmp_path, suffix, bits):
    path = tmp_path / f"out{suffix}"
    save_picture(tensor_from(ramp(3, 16)), path)
    image = pyvips.Image.new_from_file(str(path))
    assert image.format == {8: "uchar", 16: "ushort"}[bits]
    error = np.abs(image.numpy().astype(float) / (2**bits - 1) - ramp(3, 16) / 65535)
    assert error.max() < (1e-9 if bits == 16 else 0.05)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("given", "asked"), [(8, 16), (16, 8), (16, 16), (8, 8)])
def test_an_asked_depth(tmp_path, suffix, channels, given, asked):
    path = tmp_path / f"out{suffix}"
    save_picture(tensor_from(ramp(channels, given)), path, bit_depth=asked)
    image = pyvips.Image.new_from_file(str(path))
    assert (image.format, image.bands) == ({8: "uchar", 16: "ushort"}[asked], channels)
    values = image.numpy().reshape(ramp(channels).shape)
    factor = {(8, 16): 257, (16, 8): 1 / 257}.get((given, asked), 1)
    np.testing.assert_array_equal(values, np.floor(ramp(channels, given) * np.float64(factor) + 0.5))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".avif"])
def test_profile_and_exif_in_every_format(tmp_path, suffix, channels, bits):
    path = tmp_path / f"out{suffix}"
    tags = exif()
    tags.get_ifd(0x8769)[0x829A] = 0.5  # exposure
    tags.get_ifd(0x8825)[1] = "N"
    profile = GREY_PROFILE if channels == 1 and suffix not in (".webp", ".avif") else SRGB
    metadata = {"icc_profile": profile, "exif": tags.tobytes()}
    save_picture(tensor_from(ramp(channels, bits)), path, metadata=metadata)
    with Image.open(path) as image:
        found = image.getexif()
        assert image.info["icc_profile"] == profile
        assert found[0x010F] == "Maker"
        assert found.get_ifd(0x8769)[0x829A] == 0.5
        assert found.get_ifd(0x8825)[1] == "N"
        image.load()
    pyvips.Image.new_from_file(str(path), fail_on="warning").avg()  # another reader finds no fault


def test_quality(tmp_path):
    noise = tensor_from(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for suffix in (".jpg", ".webp", ".avif"):
        sizes = []
        for quality in (1, 40, None, 100):
            save_picture(noise, tmp_path / f"out{suffix}", quality=quality, overwrite=True)
            sizes.append((tmp_path / f"out{suffix}").stat().st_size)
        assert sizes == sorted(sizes)
        assert len(set(sizes)) == 4


@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        ("out.jpg", {"quality": 0}, SettingsError, r"quality must be a whole number in 1\.\.100, not 0"),
        ("out.jpg", {"quality": 101}, SettingsError, "not 101"),
        ("out.jpg", {"quality": 95.5}, SettingsError, "not 95.5"),
        ("out.jpg", {"quality": True}, SettingsError, "not True"),
        (
            "out.png",
            {"quality": 90},
            SettingsError,
            r"quality 90 has no meaning for .*PNG loses nothing.*\.jpg, \.webp",
        ),
        ("out.tif", {"quality": 90}, SettingsError, "TIFF loses nothing"),
        ("out.jpg", {"bit_depth": 16}, SettingsError, r"JPEG holds 8; use \.png or \.tif"),
        ("out.webp", {"bit_depth": 16}, SettingsError, "WEBP holds 8"),
        ("out.avif", {"bit_depth": 16}, SettingsError, "AVIF holds 8"),
        ("out.png", {"bit_depth": 12}, SettingsError, "bit_depth must be 8 or 16, not 12"),
        ("out.gif", {}, OutputNotWritableError, r"suffix must be one of \.png"),
        ("none/out.png", {}, OutputNotWritableError, "choose a folder that exists"),
    ],
)
def test_files_that_are_refused(upscaler, tmp_path, name, options, error, text):
    result = upscaler(ramp(3, 16), steps=1)
    with pytest.raises(error, match=text):
        result.save(tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_kept_unless_asked(upscaler, tmp_path):
    path = tmp_path / "out.png"
    path.write_text("old")
    result = upscaler(ramp(3, 16), steps=1)
    with pytest.raises(OutputExistsError, match="pass overwrite=True"):
        result.save(path)
    assert path.read_text() == "old"
    result.save(str(path), overwrite=True)
    np.testing.assert_array_equal(pyvips.Image.new_from_file(str(path)).numpy(), np.asarray(result.pixels))
    assert list(tmp_path.iterdir()) == [path]


def test_avif_where_pillow_has_none(monkeypatch, tmp_path):
    from PIL import features

    monkeypatch.setattr(features, "check", lambda _feature: False)
    with pytest.raises(OutputNotWritableError, match="this Pillow has no AVIF"):
        check_output(tmp_path / "out.avif", size=(1, 1), channels=3)


def test_exif_that_jpeg_cannot_hold_is_left_out_with_a_word(tmp_path, caplog):
    tags = Image.Exif()
    tags[0x010F] = "Maker" * 20_000
    metadata = {"exif": tags.tobytes()}
    with caplog.at_level(logging.WARNING, "dossr"):
        save_picture(tensor_from(ramp()), tmp_path / "out.jpg", metadata=metadata)
    assert "JPEG holds 65533; it is left out" in caplog.text
    for suffix in (".png", ".tif"):
        save_picture(tensor_from(ramp(3, 16)), tmp_path / f"out{suffix}", metadata=metadata)
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert len(image.getexif()[0x010F]) == 100_000


def test_a_large_file_keeps_its_pixels_beside_its_exif(tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (401, 603, 3), np.uint16)
    save_picture(tensor_from(array), tmp_path / "out.tif", metadata={"exif": exif().tobytes(), "icc_profile": SRGB})
    image = pyvips.Image.new_from_file(str(tmp_path / "out.tif"), fail_on="warning")
    np.testing.assert_array_equal(image.numpy(), array)


def test_exif_goes_into_little_endian_tiff_files_only(tmp_path):
    path = tmp_path / "other.tif"
    for content in (b"MM\0*\0\0\0\x08", b"\x89PNG\r\n\x1a\n"):
        path.write_bytes(content)
        with pytest.raises(OSError, match="little-endian TIFF"):
            add_exif(path, exif().tobytes())
    path.write_bytes(b"II+\0\x08\0\0\0")
    add_exif(path, exif().tobytes())  # BigTIFF: left as it is
    assert path.read_bytes() == b"II+\0\x08\0\0\0"
    path.write_bytes(b"nothing is read where there is nothing to add")
    add_exif(path, b"Exif\0\0damaged")


def test_libvips_errors_while_writing_are_named(tmp_path):
    with pytest.raises(OSError, match=r"none/out\.tif"):
        write_deep(Tensor((2, 2, 3), "uint16"), tmp_path / "none" / "out.tif", "TIFF", {})


def test_libvips_checks_the_size_before_it_decodes():
    with pytest.raises(ImageTooLargeError, match="9000x9000 pixels, at most 64000000"):
        read_deep(png(9000, 9000, 16, 2, [b""]), "PNG", "the picture")


def test_no_permission():
    """As another user where the tests run as root, who may read everything."""
    load_picture(ramp())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "secret.png"
        path.write_bytes(encoded(pil(ramp())))
        path.chmod(0)
        if user := os.geteuid():
            assert user
        else:
            os.seteuid(65534)
        try:
            with pytest.raises(ImageNotFoundError, match=r"secret\.png cannot be read .*permissions"):
                load_picture(path)
        finally:
            os.seteuid(user)


def test_without_pyvips_sixteen_bit_color_is_read_with_eight_and_a_notice(upscaler, tmp_path, no_pyvips, caplog):
    path = tmp_path / "deep.png"
    for suffix, channels, kind in ((".png", 3, "RGB"), (".png", 4, "RGBA"), (".png", 2, "RGBA"), (".tif", 3, "RGB")):
        path = tmp_path / f"deep{channels}{suffix}"
        path.write_bytes(vips(ramp(channels, 16), suffix))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dossr"):
            result = upscaler(path, steps=1)
        (notice,) = result.notices
        assert "16-bit color is read as 8-bit, because pyvips is not installed; pip install 'pyvips[binary]'" in notice
        assert [record.getMessage() for record in caplog.records] == [notice]
        assert (result.image.mode, result.pixels.dtype) == (kind, "uint8")
        result.save(tmp_path / f"out{channels}{suffix}")


def test_without_pyvips_sixteen_bit_grey_is_whole(upscaler, tmp_path, no_pyvips):
    for suffix in (".png", ".tif"):
        path, saved = tmp_path / f"deep{suffix}", tmp_path / f"out{suffix}"
        path.write_bytes(encoded(pil(ramp(1, 16)), {".png": "PNG", ".tif": "TIFF"}[suffix]))
        result = upscaler(path, steps=1)
        assert result.notices == ()
        result.save(saved, bit_depth=16)
        with Image.open(saved) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(result.image))
        assert is_really_deep(np.asarray(result.image))


def test_without_pyvips_sixteen_bit_color_cannot_be_written(upscaler, tmp_path, no_pyvips):
    result = upscaler(ramp(3, 16), steps=1)
    for options in ({}, {"bit_depth": 16}):
        with pytest.raises(PackageMissingError, match=r"16-bit color needs pyvips.*pip install 'pyvips\[binary\]'"):
            result.save(tmp_path / "out.png", **options)
    assert list(tmp_path.iterdir()) == []
    result.save(tmp_path / "out.png", bit_depth=8)
    result.save(tmp_path / "out.jpg")


def test_without_pyvips_a_tiff_that_pillow_does_not_know_says_what_it_needs(no_pyvips):
    with pytest.raises(ImageDecodeError, match=r"needs pyvips; pip install 'pyvips\[binary\]'"):
        load_picture(vips(ramp(2, 16), ".tif"))


def test_settings_of_a_program_that_uses_pyvips_itself_are_kept():
    code = "{0}from runtime.images.vips import load_pyvips as load; p = load(); "
    code += "print(p.cache_get_max(), p.concurrency_get())"
    ours = subprocess.run([sys.executable, "-c", code.format("")], cwd=REPOSITORY, capture_output=True, text=True)
    assert ours.stdout == "0 2\n", ours.stderr
    own = "import pyvips; pyvips.cache_set_max(77); pyvips.concurrency_set(3); "
    theirs = subprocess.run([sys.executable, "-c", code.format(own)], cwd=REPOSITORY, capture_output=True, text=True)
    assert theirs.stdout == "77 3\n", theirs.stderr
    assert load_pyvips().Image
