"""Every kind of picture in and out."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from engines.errors import (
    ImageDecodeError,
    ImageError,
    ImageNotFoundError,
    ImageTooLargeError,
    OutputNotWritableError,
)
from runtime.images import FORMATS, check_output, finish_picture, load_picture, save_picture
from runtime.kernels import Tensor, tensor_from


def photo(width=20, height=12):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / (width + height)], axis=2).astype(np.uint8)


def pixels_of(picture):
    return np.asarray(picture.pixels).reshape(picture.height, picture.width, -1)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "wrap",
    [str, lambda p: p, Path.read_bytes, lambda p: bytearray(p.read_bytes()), lambda p: io.BytesIO(p.read_bytes())],
)
def test_paths_and_bytes(tmp_path, wrap):
    path = tmp_path / "photo.png"
    Image.fromarray(photo()).save(path)
    picture = load_picture(wrap(path))
    assert (picture.width, picture.height, picture.is_buffer) == (20, 12, False)
    np.testing.assert_array_equal(pixels_of(picture), photo())


@pytest.mark.parametrize("channels", [3, 4])
def test_buffers_keep_their_kind(channels):
    array = np.dstack([photo(), np.full((12, 20), 200, np.uint8)])[:, :, :channels]
    picture = load_picture(np.ascontiguousarray(array))
    assert picture.is_buffer
    result = finish_picture(Tensor((48, 80, 3), "uint8"), picture, (80, 48)).image
    assert isinstance(result, runtime.Image8)
    assert result.shape == (48, 80, channels)
    if channels == 4:
        assert set(np.asarray(memoryview(result))[:, :, 3].ravel()) == {200}


@pytest.mark.parametrize(
    ("mode", "result_mode"),
    [
        ("RGB", "RGB"),
        ("L", "L"),
        ("1", "L"),
        ("P", "RGB"),
        ("RGBA", "RGBA"),
        ("LA", "LA"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("La", "LA"),
        ("I;16", "I;16"),
    ],
)
def test_modes(mode, result_mode):
    deep = Image.fromarray(photo()[:, :, 0].astype(np.uint16) * 257)
    image = deep if mode == "I;16" else Image.fromarray(photo()).convert("LA" if mode == "La" else "RGB").convert(mode)
    picture = load_picture(image)
    pixels = Tensor((48, 80, 1 if picture.grey else 3), f"uint{picture.bit_depth}")
    result = finish_picture(pixels, picture, (80, 48)).image
    assert (result.mode, result.size) == (result_mode, (80, 48))
    assert pixels_of(picture).shape == (12, 20, 1 if picture.grey else 3)


def test_sixteen_bit_grey_keeps_its_levels():
    levels = np.linspace(0, 65535, 240, dtype=np.uint16).reshape(12, 20)
    picture = load_picture(encoded(Image.fromarray(levels)))
    np.testing.assert_array_equal(pixels_of(picture)[:, :, 0], levels)
    assert picture.grey
    assert picture.bit_depth == 16


def test_palette_with_transparency_keeps_alpha():
    image = Image.fromarray(photo()).quantize(16)
    picture = load_picture(encoded(image, transparency=0))
    assert picture.alpha is not None
    result = finish_picture(Tensor((48, 80, 3), "uint8"), picture, (80, 48)).image
    assert result.mode == "RGBA"


def test_exif_orientation_is_applied_and_not_repeated(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    data = encoded(Image.fromarray(photo()), "JPEG", exif=exif, quality=100, subsampling=0)
    picture = load_picture(data)
    assert (picture.width, picture.height) == (12, 20)
    assert np.abs(pixels_of(picture).astype(int) - np.rot90(photo(), -1).astype(int)).max() < 12
    result = finish_picture(Tensor((80, 48, 3), "uint8"), picture, (48, 80))
    save_picture(result.pixels, tmp_path / "out.jpg", metadata=picture.metadata)
    with Image.open(tmp_path / "out.jpg") as saved:
        assert saved.getexif().get(0x0112, 1) == 1
        assert saved.getexif()[0x010F] == "Maker"


def test_profile_is_kept(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = load_picture(encoded(Image.fromarray(photo()), icc_profile=profile))
    pixels = finish_picture(Tensor((48, 80, 3), "uint8"), picture, (80, 48)).pixels
    save_picture(pixels, tmp_path / "out.png", metadata=picture.metadata)
    with Image.open(tmp_path / "out.png") as saved:
        assert saved.info["icc_profile"] == profile


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    save_picture(tensor_from(photo()), path)
    with Image.open(path) as saved:
        assert (saved.format, saved.size) == (FORMATS[suffix].name, (20, 12))
        error = np.abs(np.asarray(saved.convert("RGB")).astype(int) - photo().astype(int)).mean()
        assert error < 4
    assert list(tmp_path.iterdir()) == [path]


def test_scale_other_than_four():
    result = finish_picture(Tensor((48, 80, 3), "uint8"), load_picture(photo()), (50, 30)).image
    assert result.shape == (30, 50, 3)


def bomb(width, height):
    """A PNG of a few bytes that declares a picture of gigabytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_decompression_bomb(side):
    with pytest.raises(ImageTooLargeError, match="pixels"):
        load_picture(bomb(side, side))


@pytest.mark.parametrize("cut", [30, 60, 200, 500])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_truncated(kind, cut):
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)), kind)
    with pytest.raises(ImageDecodeError, match=r"damaged or truncated|not an image"):
        load_picture(data[:cut])


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_not_an_image(data):
    with pytest.raises(ImageDecodeError):
        load_picture(data)


def test_path_problems(tmp_path):
    with pytest.raises(ImageNotFoundError, match=r"there is no file"):
        load_picture(tmp_path / "none.png")
    with pytest.raises(ImageNotFoundError, match="is a folder"):
        load_picture(tmp_path)
    for path in (tmp_path / ("n" * 300), "a\0b"):
        with pytest.raises(ImageNotFoundError, match="cannot be read"):
            load_picture(path)


def test_truncated_pil_image():
    image = Image.open(io.BytesIO(encoded(Image.fromarray(photo(200, 200)), "JPEG")[:2000]))
    with pytest.raises(ImageDecodeError, match="the PIL image is damaged or truncated"):
        load_picture(image)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_is_left_out():
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x011A] = 72.0
    data = bytearray(encoded(Image.fromarray(photo()), "JPEG", exif=exif))
    start = data.index(b"Exif")
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(start + 6, start + len(exif.tobytes()), 3):
            damaged[place] = rng.integers(256)
        assert load_picture(bytes(damaged)).width in (20, 12)


@pytest.mark.parametrize(
    "source",
    [
        None,
        3,
        [1, 2],
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_objects_that_are_no_image(source):
    with pytest.raises(ImageError, match=r"uint8 or uint16 \[h, w, 3"):
        load_picture(source)


def test_outputs_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputNotWritableError, match=r"suffix must be one of \.png"):
        check_output(tmp_path / "out.xyz", channels=3, size=(1, 1))
    with pytest.raises(OutputNotWritableError, match="has alpha and JPEG holds none"):
        check_output(tmp_path / "out.jpg", channels=4, size=(1, 1))
    with pytest.raises(OutputNotWritableError, match="choose a folder that exists"):
        save_picture(Tensor((1, 1, 3), "uint8"), tmp_path / "none" / "out.png")
    too_wide = Tensor((1, 17000, 3), "uint8")
    with pytest.raises(
        OutputNotWritableError, match=r"WEBP holds sides up to 16383, the picture is 17000x1; use \.png"
    ):
        save_picture(too_wide, tmp_path / "out.webp")
    assert list(tmp_path.iterdir()) == []
