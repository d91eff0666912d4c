"""Images, color fixes, tiles: every kernel against its twin on the host, bit for bit, but for adain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.cuda.gpu import Array, Gpu, random, same_bits

moderately = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EXTREMES = [(np.nan, np.nan), (np.inf, np.inf), (-np.inf, np.inf), (-3e38, 3e38), (448.0, 448.0), (-1e-3, 1e-3)]


def pixels(*shape: int, dtype: str = "uint8", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


SIZES = [
    ((1, 1), (1, 1)),
    ((1, 1), (16, 16)),
    ((1, 5), (16, 16)),
    ((2, 3), (16, 32)),
    ((16, 16), (16, 16)),
    ((17, 30), (32, 32)),
    ((3, 2), (3, 64)),
    ((37, 129), (41, 131)),
    ((64, 132), (64, 136)),
    ((31, 257), (32, 272)),
]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("size", "padded"), SIZES)
def test_image_to_planar(gpu: Gpu, size: tuple[int, int], padded: tuple[int, int], channels: int, dtype: str) -> None:
    image = pixels(*size, channels, dtype=dtype)
    out = gpu.garbage((2, 3, *padded))
    before = gpu.down(out)
    gpu.cuda.image_to_planar(gpu.stream, gpu.up(image), out, 1)
    twin = gpu.native.tensor_from(before)
    gpu.native.image_to_planar(image, twin, 1)
    same_bits(gpu.down(out), np.array(twin))


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 3)])
def test_every_sample(gpu: Gpu, dtype: str, channels: int) -> None:
    """The kernel does without the host's division, and gives its very quotients."""
    white = np.iinfo(dtype).max
    samples = np.arange(white + 1, dtype=dtype).reshape(-1, 16, 1).repeat(channels, 2)
    out = gpu.garbage((1, 3, *samples.shape[:2]))
    gpu.cuda.image_to_planar(gpu.stream, gpu.up(samples), out)
    expected = samples[..., 0].astype(np.float32) / np.float32(white)
    same_bits(gpu.down(out), np.ascontiguousarray(np.broadcast_to(expected, out.shape)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "padded"), SIZES)
def test_planar_to_image(gpu: Gpu, size: tuple[int, int], padded: tuple[int, int], channels: int, dtype: str) -> None:
    planes = (np.random.default_rng(1).random((2, 3, *padded)) * 1.5 - 0.25).astype(np.float32)
    planes[0] = np.nan  # of another item, and so not looked at
    planes[1, 1, size[0] :] = planes[1, 1, :, size[1] :] = np.nan  # beyond the crop
    largest, out = gpu.up(np.zeros(3, np.float32)), gpu.garbage((*size, channels), dtype)
    gpu.cuda.planar_to_image(gpu.stream, gpu.up(planes), out, largest, 1, 1)
    twin = gpu.native.Tensor((*size, channels), dtype)
    seen = gpu.native.planar_to_image(gpu.native.tensor_from(planes), twin, 1)
    same_bits(gpu.down(out), np.array(twin))
    assert gpu.down(largest).tolist() == [0, np.float32(seen), 0]


@pytest.mark.parametrize(("value", "seen"), EXTREMES)
@pytest.mark.parametrize("place", [(0, 0, 0), (1, 20, 33), (2, 40, 60)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_s_value_is_seen(gpu: Gpu, channels: int, place: tuple[int, ...], value: float, seen: float) -> None:
    planes = np.zeros((1, 3, 41, 61), np.float32)
    planes[0][place] = value
    largest, out = gpu.up(np.zeros(1, np.float32)), gpu.garbage((41, 61, channels), "uint8")
    gpu.cuda.planar_to_image(gpu.stream, gpu.up(planes), out, largest, 0)
    np.testing.assert_equal(gpu.down(largest)[0], np.float32(seen))
    if not np.isfinite(value):
        assert not gpu.down(out).any()


@moderately
@given(
    st.integers(1, 40), st.integers(1, 70), st.integers(0, 5), st.integers(0, 9),
    st.sampled_from(["uint8", "uint16"]), st.sampled_from([1, 3]),
)  # fmt: skip
def test_pictures_go_there_and_back(
    gpu: Gpu, height: int, width: int, below: int, right: int, dtype: str, channels: int
) -> None:
    image = pixels(height, width, channels, dtype=dtype, seed=height * width)
    planes, largest = gpu.garbage((1, 3, height + below, width + right)), gpu.up(np.zeros(1, np.float32))
    out = gpu.garbage(image.shape, dtype)
    gpu.cuda.image_to_planar(gpu.stream, gpu.up(image), planes)
    gpu.cuda.planar_to_image(gpu.stream, planes, out, largest, 0)
    same_bits(gpu.down(out), image)


FIX_SHAPES = [
    *[(1, 3, *size) for size in [(1, 1), (1, 2), (2, 1), (3, 130), (130, 3), (17, 33), (47, 48), (48, 49), (64, 64)]],
    (2, 2, 97, 101),
    (1, 1, 96, 144),
    (0, 3, 4, 4),
    (1, 3, 0, 4),
]


@pytest.mark.parametrize("shape", FIX_SHAPES)
def test_wavelet_fix(gpu: Gpu, shape: tuple[int, ...]) -> None:
    content, style = random(*shape), random(*shape, seed=1)
    out = gpu.garbage(shape)
    gpu.cuda.wavelet_fix(gpu.stream, gpu.up(content), gpu.up(style), out)
    twin = gpu.native.tensor_from(content)
    gpu.native.wavelet_fix(twin, gpu.native.tensor_from(style))
    same_bits(gpu.down(out), np.array(twin))


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("shape", [*FIX_SHAPES, (2, 1, 128, 192)])
def test_adain_fix(gpu: Gpu, shape: tuple[int, ...], offset: float) -> None:
    """Sums in double, in another order than the host's."""
    content, style = random(*shape) + np.float32(offset), random(*shape, seed=1, scale=0.5)
    out, work = gpu.garbage(shape), gpu.garbage((gpu.cuda.adain_work(shape),), "float64")
    gpu.cuda.adain_fix(gpu.stream, gpu.up(content), gpu.up(style), out, work)
    twin = gpu.native.tensor_from(content)
    gpu.native.adain_fix(twin, gpu.native.tensor_from(style))
    # A unit in the last place of the mean, where the two round it to different floats.
    np.testing.assert_allclose(gpu.down(out), np.array(twin), rtol=1e-6, atol=1e-6 + 1e-7 * offset)


def test_a_picture_is_its_own_style(gpu: Gpu) -> None:
    image = random(1, 3, 60, 61)
    device, work = gpu.up(image), gpu.garbage((gpu.cuda.adain_work(image.shape),), "float64")
    for fix, more in ((gpu.cuda.wavelet_fix, ()), (gpu.cuda.adain_fix, (work,))):
        out = gpu.garbage(image.shape)
        fix(gpu.stream, device, device, out, *more)
        np.testing.assert_allclose(gpu.down(out), image, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("tile", "canvas", "corner"),
    [
        ((1, 3, 1, 1), (1, 3, 1, 1), (0, 0)),
        ((2, 3, 5, 7), (1, 3, 9, 11), (4, 4)),
        ((1, 4, 64, 64), (1, 4, 64, 96), (0, 32)),
        ((2, 4, 64, 64), (1, 4, 65, 96), (1, 31)),
        ((1, 1, 9, 140), (1, 1, 9, 144), (0, 4)),
        ((1, 3, 0, 4), (1, 3, 2, 4), (1, 0)),
    ],
)
def test_tile_blend(gpu: Gpu, tile: tuple[int, ...], canvas: tuple[int, ...], corner: tuple[int, int]) -> None:
    values, before = random(*tile), random(*canvas, seed=1)
    windows = random(tile[2], seed=2), random(tile[3], seed=3)
    item = tile[0] - 1
    out = gpu.up(before)
    gpu.cuda.tile_blend(gpu.stream, gpu.up(values), out, *map(gpu.up, windows), *corner, item)
    twin = gpu.native.tensor_from(before)
    gpu.native.tile_blend(gpu.native.tensor_from(values), twin, *map(gpu.native.tensor_from, windows), *corner, item)
    same_bits(gpu.down(out), np.array(twin))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("picture", "corner", "sides"),
    [((9, 11), (0, 0), (4, 4)), ((9, 11), (3, 5), (8, 16)), ((40, 140), (8, 4), (24, 132)), ((2, 1), (5, 7), (3, 3))],
)
def test_crop_to_planar(
    gpu: Gpu,
    dtype: type[np.uint8 | np.uint16],
    channels: int,
    picture: tuple[int, int],
    corner: tuple[int, int],
    sides: tuple[int, int],
) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (*picture, channels), dtype)
    out, twin = gpu.garbage((2, 3, *sides)), gpu.native.Tensor((2, 3, *sides))
    gpu.cuda.crop_to_planar(gpu.stream, gpu.up(pixels), *corner, out, 1)
    gpu.native.crop_to_planar(pixels, *corner, twin, 1)
    same_bits(gpu.down(out)[1], np.array(twin)[1])


@pytest.mark.parametrize(
    ("tile", "canvas", "corner"),
    [
        ((1, 3, 1, 1), (1, 3, 1, 1), (0, 0)),
        ((2, 3, 5, 7), (1, 3, 9, 11), (4, 4)),
        ((2, 3, 5, 7), (1, 3, 9, 11), (6, 9)),
        ((1, 4, 64, 64), (1, 4, 64, 96), (0, 32)),
        ((1, 3, 8, 4), (1, 3, 8, 4), (8, 0)),
        ((1, 3, 0, 4), (1, 3, 2, 4), (1, 0)),
    ],
)
def test_tile_take(gpu: Gpu, tile: tuple[int, ...], canvas: tuple[int, ...], corner: tuple[int, int]) -> None:
    whole, out, twin = random(*canvas), gpu.garbage(tile), gpu.native.Tensor(tile)
    item = tile[0] - 1
    gpu.cuda.tile_take(gpu.stream, gpu.up(whole), out, *corner, item)
    gpu.native.tile_take(gpu.native.tensor_from(whole), twin, *corner, item)
    same_bits(gpu.down(out)[item], np.array(twin)[item])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 3, 64, 100), (1, 3, 0, 4)])
def test_match_planes(gpu: Gpu, shape: tuple[int, ...]) -> None:
    planes, moves = random(*shape), random(shape[1], 3, seed=1)
    out, twin = gpu.up(planes), gpu.native.tensor_from(planes)
    gpu.cuda.match_planes(gpu.stream, out, gpu.up(moves))
    gpu.native.match_planes(twin, gpu.native.tensor_from(moves))
    same_bits(gpu.down(out), np.array(twin))


def test_more_planes_than_a_grid_has_layers(gpu: Gpu) -> None:
    if gpu.native.__name__.endswith("_on_host"):
        pytest.skip("minutes, but on a GPU")
    shape = (1, 70_001, 3, 5)
    content, style = random(*shape), random(*shape, seed=1)
    device, device_style = gpu.up(content), gpu.up(style)
    fixed, matched, blended = gpu.garbage(shape), gpu.garbage(shape), gpu.up(content)
    windows = random(3), random(5)
    gpu.cuda.wavelet_fix(gpu.stream, device, device_style, fixed)
    gpu.cuda.adain_fix(gpu.stream, device, device_style, matched, gpu.garbage((gpu.cuda.adain_work(shape),), "float64"))
    gpu.cuda.tile_blend(gpu.stream, device_style, blended, *map(gpu.up, windows), 0, 0)
    twins = [gpu.native.tensor_from(content) for _ in range(3)]
    gpu.native.wavelet_fix(twins[0], gpu.native.tensor_from(style))
    gpu.native.adain_fix(twins[1], gpu.native.tensor_from(style))
    gpu.native.tile_blend(gpu.native.tensor_from(style), twins[2], *map(gpu.native.tensor_from, windows), 0, 0)
    same_bits(gpu.down(fixed), np.array(twins[0]))
    np.testing.assert_allclose(gpu.down(matched), np.array(twins[1]), rtol=1e-6, atol=1e-6)
    same_bits(gpu.down(blended), np.array(twins[2]))
