"""image_to_planar and planar_to_image against NumPy."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
import pytest
import torch

from runtime import _native
from runtime._native import Tensor, change_depth, image_to_planar, planar_to_image, tensor_from

Samples = npt.NDArray[np.integer]
DEPTHS = {"uint8": 255, "uint16": 65535}


def pixels(height: int, width: int, channels: int = 3, dtype: str = "uint8") -> Samples:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, DEPTHS[dtype] + 1, (height, width, channels)).astype(dtype)


def planar(source: object, height: int, width: int) -> npt.NDArray[np.float32]:
    out = Tensor((1, 3, height, width))
    out.fill(float("nan"))
    image_to_planar(source, out)
    return np.asarray(out)


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((1, 1), (1, 1)),
        ((1, 1), (16, 16)),
        ((1, 5), (16, 16)),
        ((2, 3), (16, 32)),
        ((16, 16), (16, 16)),
        ((17, 30), (32, 32)),
        ((3, 2), (3, 64)),
        ((300, 401), (304, 416)),
    ],
)
def test_values_and_reflection(size: tuple[int, int], padded: tuple[int, int], channels: int, dtype: str) -> None:
    image = pixels(*size, channels, dtype)
    expected = (image[:, :, :3].astype(np.float32) / np.float32(DEPTHS[dtype])).transpose(2, 0, 1)[None]
    expected = np.broadcast_to(expected, (1, 3, *size))
    # NumPy folds as often as needed; it replicates a side of 1, too.
    widths = ((0, 0), (0, 0), (0, padded[0] - size[0]), (0, padded[1] - size[1]))
    expected = np.pad(expected, widths, mode="reflect")
    np.testing.assert_array_equal(planar(image, *padded), expected)


def test_sixteen_bits_need_no_alignment() -> None:
    image = pixels(5, 7, dtype="uint16")
    raw = np.frombuffer(b"\0" + image.tobytes(), np.uint8)[1:]
    unaligned = raw.view(np.uint16).reshape(5, 7, 3)
    assert not unaligned.flags.aligned
    np.testing.assert_array_equal(planar(unaligned, 16, 16), planar(image, 16, 16))
    np.testing.assert_array_equal(planar(torch.from_numpy(image), 16, 16), planar(image, 16, 16))
    with pytest.raises(TypeError, match="src: dtype"):
        planar(image.astype(">u2"), 16, 16)


def test_any_strides_and_any_exporter() -> None:
    image = pixels(20, 24)
    for view in (image[::-1], image[:, ::-2], image.transpose(1, 0, 2), image[3:9, 5:6, ::-1], image[..., ::-1]):
        height, width, _ = view.shape
        expected = (view.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None]
        np.testing.assert_array_equal(planar(view, height, width), expected)
    expected = planar(image, 32, 32).copy()
    flat = (((ctypes.c_ubyte * 3) * 24) * 20).from_buffer_copy(image.tobytes())
    for source in (tensor_from(image), torch.from_numpy(image), memoryview(image.data), flat):
        np.testing.assert_array_equal(planar(source, 32, 32), expected)


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize(("size", "padded"), [((1, 1), (1, 1)), ((5, 7), (16, 16)), ((300, 513), (304, 528))])
def test_back_to_pixels(size: tuple[int, int], padded: tuple[int, int], simd: bool, dtype: str) -> None:
    values = (np.random.default_rng(0).random((1, 3, *padded)) * 1.5 - 0.25).astype(np.float32)
    out, grey = Tensor((*size, 3), dtype), Tensor((*size, 1), dtype)
    _native._set_simd(simd)
    seen = np.abs(values[0, :, : size[0], : size[1]]).max()
    assert planar_to_image(tensor_from(values), out) == seen
    assert planar_to_image(tensor_from(values), grey) == seen
    _native._set_simd(True)
    clamped = np.clip(values[0, :, : size[0], : size[1]], 0, 1).transpose(1, 2, 0)
    expected = np.rint(clamped * np.float32(DEPTHS[dtype]))
    np.testing.assert_array_equal(np.asarray(out), expected.astype(dtype))
    luma = clamped.astype(np.float64) @ [0.299, 0.587, 0.114] * DEPTHS[dtype]
    # float32 is 1e-7 off, which is 0.02 of a 16-bit step
    assert np.abs(np.asarray(grey)[:, :, 0] - luma).max() <= 0.52


@pytest.mark.parametrize("simd", [True, False])
def test_grey_and_sixteen_bits_come_back_as_they_were(simd: bool) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    planes = Tensor((1, 3, 256, 256))
    image_to_planar(levels, planes)
    _native._set_simd(simd)
    for channels in (1, 3):
        out = Tensor((256, 256, channels), "uint16")
        assert planar_to_image(planes, out) == 1
        np.testing.assert_array_equal(np.asarray(out), np.broadcast_to(levels, (256, 256, channels)))
    _native._set_simd(True)


def test_change_depth_of_every_value() -> None:
    for values, target in ((np.arange(256), "uint16"), (np.arange(65536), "uint8")):
        source = "uint8" if target == "uint16" else "uint16"
        out = Tensor(values.shape, target)
        change_depth(tensor_from(values.astype(source)), out)
        expected = np.floor(values * (DEPTHS[target] / DEPTHS[source]) + 0.5)
        np.testing.assert_array_equal(np.asarray(out), expected.astype(target))


def test_change_depth_refuses() -> None:
    for source, target in (("uint8", "uint8"), ("uint16", "float32"), ("float32", "uint8")):
        with pytest.raises(TypeError, match="src and out: expected uint8 and uint16"):
            change_depth(Tensor((3,), source), Tensor((3,), target))
    with pytest.raises(ValueError, match="out: expected the shape of src"):
        change_depth(Tensor((3,), "uint8"), Tensor((4,), "uint16"))


def test_rounding_is_half_to_even_and_nothing_wraps() -> None:
    values = np.array([0.5 / 255, 1.5 / 255, 2.5 / 255, 0.5, -0.0, 1.0, 1.0000001, 3e38, -3e38, 0.99999994], np.float32)
    out = Tensor((1, 10, 3), "uint8")
    assert planar_to_image(tensor_from(np.broadcast_to(values, (1, 3, 1, 10))), out) == np.float32(3e38)
    expected = np.rint(np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8)
    assert np.asarray(out)[0, :, 1].tolist() == expected.tolist() == [0, 2, 2, 128, 0, 255, 255, 255, 0, 255]


def test_round_trip_of_every_byte() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    planes, out = Tensor((1, 3, 16, 16)), Tensor((16, 16, 3), "uint8")
    image_to_planar(image, planes)
    assert planar_to_image(planes, out) == 1
    np.testing.assert_array_equal(np.asarray(out), image)


@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (67, 513)])
@pytest.mark.parametrize(("value", "seen"), [(np.nan, np.nan), (np.inf, np.inf), (-np.inf, np.inf), (-65504, 65504)])
def test_one_value_is_seen_wherever_it_is(
    value: float, seen: float, size: tuple[int, int], channels: int, dtype: str, simd: bool
) -> None:
    height, width = size
    out = Tensor((height, width, channels), dtype)
    _native._set_simd(simd)
    for place in ((0, 0, 0), (1, height // 2, width // 2), (2, height - 1, width - 1)):
        values = np.full((1, 3, height + 1, width + 1), 0.8, np.float32)
        values[0, 1, height, 0] = values[0, 2, 0, width] = np.nan  # outside the crop, where nothing is looked at
        assert planar_to_image(tensor_from(values), out) == np.float32(0.8)
        values[0][place] = value
        np.testing.assert_equal(planar_to_image(tensor_from(values), out), seen)
    _native._set_simd(True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_0(bad: float) -> None:
    values = np.full((1, 3, 4, 5), 0.8, np.float32)
    out = Tensor((3, 4, 3), "uint8")
    values[0, 1, 2, 3] = bad
    planar_to_image(tensor_from(values), out)
    expected = np.full((3, 4, 3), 204)
    expected[2, 3, 1] = 0
    assert np.asarray(out).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("source", "out", "error", "text"),
    [
        (pixels(3, 3), Tensor((1, 3, 2, 3)), ValueError, r"out: .*uint8 \[3, 3, 3\].*\[1, 3, 2, 3\]"),
        (pixels(3, 3), Tensor((1, 4, 4, 4)), ValueError, r"out: expected float32 \[B, 3, H, W\]"),
        (pixels(3, 3), Tensor((0, 3, 4, 4)), ValueError, "out: expected at least one picture"),
        (pixels(3, 3), Tensor((3, 4, 4)), ValueError, "out: expected the layout"),
        (pixels(3, 3), Tensor((1, 3, 4, 4), "float64"), TypeError, "out: expected dtype float32"),
        (pixels(3, 3, 2), Tensor((1, 3, 4, 4)), ValueError, "src: "),
        (pixels(3, 3)[0], Tensor((1, 3, 4, 4)), ValueError, "src: "),
        (pixels(0, 3), Tensor((1, 3, 4, 4)), ValueError, "src: .*1 or more"),
        (pixels(3, 3).astype(np.float32), Tensor((1, 3, 4, 4)), TypeError, "src: expected uint8 or uint16"),
        (pixels(3, 3).astype(np.int16), Tensor((1, 3, 4, 4)), TypeError, "src: dtype"),
        (None, Tensor((1, 3, 4, 4)), TypeError, "src: expected an object"),
        (pixels(3, 3), None, TypeError, "."),
    ],
)
def test_image_to_planar_refuses(source: object, out: Tensor, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        image_to_planar(source, out)


def test_an_image_inside_its_own_output_is_refused() -> None:
    out = Tensor((1, 3, 4, 4))
    inside = np.asarray(out).view(np.uint8).reshape(-1)[:48].reshape(4, 4, 3)
    for view in (inside, inside[::-1]):
        with pytest.raises(ValueError, match="out is written and must not share memory with src"):
            image_to_planar(view, out)


@pytest.mark.parametrize(
    ("source", "out", "error", "text"),
    [
        (Tensor((1, 3, 4, 4)), Tensor((5, 4, 3), "uint8"), ValueError, "out: .*no larger"),
        (
            Tensor((1, 3, 4, 4)),
            Tensor((4, 4, 4), "uint8"),
            ValueError,
            r"out: expected uint8 or uint16 \[h, w, 1 or 3\]",
        ),
        (Tensor((1, 3, 4, 4)), Tensor((4, 4), "uint8"), ValueError, "out: expected the layout"),
        (Tensor((1, 3, 4, 4)), Tensor((4, 4, 3)), TypeError, "out: expected dtype uint8 or uint16"),
        (Tensor((1, 4, 4, 4)), Tensor((4, 4, 3), "uint8"), ValueError, "src: "),
        (Tensor((1, 3, 4, 4), "float16"), Tensor((4, 4, 3), "uint8"), TypeError, "src: expected dtype float32"),
        (None, Tensor((4, 4, 3), "uint8"), TypeError, "."),
    ],
)
def test_planar_to_image_refuses(source: Tensor, out: Tensor, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        planar_to_image(source, out)


def test_a_batch_is_written_and_read_one_picture_at_a_time() -> None:
    images = [pixels(5, 7), pixels(6, 4)]
    batch = Tensor((3, 3, 8, 8))
    batch.fill(2)
    for item, image in zip((0, 2), images, strict=True):
        image_to_planar(image, batch, item)
        np.testing.assert_array_equal(np.asarray(batch)[item], planar(image, 8, 8)[0])
        out = Tensor(image.shape, "uint8")
        assert planar_to_image(batch, out, item) == image.max() / np.float32(255)
        np.testing.assert_array_equal(np.asarray(out), image)
    assert (np.asarray(batch)[1] == 2).all()
    for item in (3, -1):
        with pytest.raises(ValueError, match=f"item: expected 0 to 2, got {item}"):
            image_to_planar(images[0], batch, item)
        with pytest.raises(ValueError, match="item"):
            planar_to_image(batch, Tensor((1, 1, 3), "uint8"), item)
