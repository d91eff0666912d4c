"""crop_to_planar, tile_take, tile_moments and match_planes against NumPy, and their checks."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime import _native
from runtime._native import Tensor, crop_to_planar, image_to_planar, match_planes, tensor_from, tile_moments, tile_take

Floats = npt.NDArray[np.float32]


def random(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("corner", "sides"), [((0, 0), (4, 4)), ((3, 5), (8, 16)), ((9, 0), (3, 3)), ((0, 30), (5, 2))]
)
def test_a_crop_is_that_of_the_whole(
    dtype: type[np.uint8 | np.uint16], channels: int, corner: tuple[int, int], sides: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 11, channels), dtype)
    whole, out = Tensor((1, 3, 64, 64)), Tensor((2, 3, *sides))
    image_to_planar(pixels, whole)
    crop_to_planar(pixels, *corner, out, 1)
    (y, x), (height, width) = corner, sides
    np.testing.assert_array_equal(np.asarray(out)[1], np.asarray(whole)[0, :, y : y + height, x : x + width])
    assert not np.asarray(out)[0].any()


def test_a_crop_of_strided_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)
    out, expected = Tensor((1, 3, 4, 12)), Tensor((1, 3, 4, 12))
    crop_to_planar(pixels[::-2, ::2], 1, 2, out)
    crop_to_planar(np.ascontiguousarray(pixels[::-2, ::2]), 1, 2, expected)
    assert bytes(out) == bytes(expected)


@pytest.mark.parametrize(
    ("corner", "sides"), [((0, 0), (9, 11)), ((4, 4), (5, 7)), ((6, 9), (5, 7)), ((9, 11), (2, 2))]
)
def test_a_tile_is_taken_and_beyond_the_canvas_zero(corner: tuple[int, int], sides: tuple[int, int]) -> None:
    canvas, out = random(1, 3, 9, 11), tensor_from(random(2, 3, *sides, seed=1))
    tile_take(tensor_from(canvas), out, *corner, 1)
    padded = np.pad(canvas[0], ((0, 0), (0, 9), (0, 11)))
    expected = padded[:, corner[0] : corner[0] + sides[0], corner[1] : corner[1] + sides[1]]
    np.testing.assert_array_equal(np.asarray(out)[1], expected)
    np.testing.assert_array_equal(np.asarray(out)[0], random(2, 3, *sides, seed=1)[0])


def test_moments_in_double_and_the_same_for_any_threads() -> None:
    tile, window_y, window_x = random(2, 3, 70, 90), random(70, seed=1), random(90, seed=2)
    found = set()
    try:
        for threads in (1, 2, 5):
            _native.set_num_threads(threads)
            sums = tensor_from(np.ones((3, 2)))
            tile_moments(tensor_from(tile), sums, tensor_from(window_y), tensor_from(window_x), 1)
            found.add(bytes(sums))
    finally:
        _native.set_num_threads(2)
    assert len(found) == 1
    values = tile[1].astype(np.float64)
    weights = window_y.astype(np.float64)[:, None] * window_x
    expected = np.stack([(weights * values).sum((1, 2)), (weights * values**2).sum((1, 2))], 1) + 1
    np.testing.assert_allclose(np.asarray(sums), expected, rtol=1e-13)


def test_planes_are_moved() -> None:
    planes, moves = random(2, 3, 40, 50), random(3, 3, seed=1)
    out = tensor_from(planes)
    match_planes(out, tensor_from(moves))
    before, gain, after = moves.T[:, None, :, None, None]
    np.testing.assert_allclose(np.asarray(out), (planes - before) * gain + after, rtol=0, atol=1e-6)


def arguments() -> dict[str, tuple[Any, dict[str, Any]]]:
    tile, windows = Tensor((2, 3, 4, 5)), {"window_y": Tensor((4,)), "window_x": Tensor((5,))}
    return {
        "crop": (crop_to_planar, {"src": Tensor((4, 6, 3), "uint8"), "y": 0, "x": 0, "out": Tensor((1, 3, 2, 2))}),
        "take": (tile_take, {"canvas": Tensor((1, 3, 6, 7)), "tile": tile, "y": 6, "x": 0}),
        "moments": (tile_moments, {"tile": tile, "sums": Tensor((3, 2), "float64"), **windows}),
        "match": (match_planes, {"planes": tile, "moves": Tensor((3, 3))}),
    }


@pytest.mark.parametrize(
    ("function", "changed", "error", "text"),
    [
        ("crop", {"src": Tensor((4, 6, 2), "uint8")}, ValueError, "src: expected uint8 or uint16 [h, w, 1, 3 or 4]"),
        ("crop", {"src": Tensor((4, 6, 3))}, TypeError, "src: expected uint8 or uint16"),
        ("crop", {"y": -1}, ValueError, "y: expected 0 to 536870912, got -1"),
        ("crop", {"x": 0.0}, TypeError, "x: expected an integer"),
        ("crop", {"out": Tensor((1, 4, 2, 2))}, ValueError, "out: expected"),
        ("crop", {"item": 1}, ValueError, "item: expected 0 to 0, got 1"),
        (
            "take",
            {"canvas": Tensor((1, 4, 6, 7))},
            ValueError,
            "canvas: expected float32 [1, C, H, W] with the channels",
        ),
        ("take", {"canvas": Tensor((2, 3, 6, 7))}, ValueError, "canvas: expected float32 [1, C, H, W]"),
        ("take", {"tile": Tensor((3, 4, 5))}, ValueError, "tile: expected the layout [B, C, h, w]"),
        ("take", {"y": 7}, ValueError, "y: expected 0 to 6, got 7"),
        ("take", {"x": None}, TypeError, "x: expected an integer"),
        ("take", {"item": 2}, ValueError, "item: expected 0 to 1, got 2"),
        ("moments", {"tile": Tensor((3, 4, 5))}, ValueError, "tile: expected the layout [B, C, h, w]"),
        ("moments", {"tile": Tensor((2, 3, 4, 5), "float64")}, TypeError, "tile: expected dtype float32"),
        ("moments", {"sums": Tensor((3, 2))}, TypeError, "sums: expected dtype float64"),
        ("moments", {"sums": Tensor((2, 3), "float64")}, ValueError, "sums: expected float64 [C, 2]"),
        ("moments", {"window_y": Tensor((5,))}, ValueError, "window_y: expected float32 [4]"),
        ("moments", {"window_x": Tensor((4,))}, ValueError, "window_x: expected float32 [5]"),
        ("moments", {"item": 2}, ValueError, "item: expected 0 to 1, got 2"),
        ("match", {"planes": Tensor((3, 4, 5))}, ValueError, "planes: expected the layout [B, C, H, W]"),
        ("match", {"moves": Tensor((3, 2))}, ValueError, "moves: expected float32 [3, 3]"),
    ],
)
def test_refused(function: str, changed: dict[str, Any], error: type[Exception], text: str) -> None:
    call, given = arguments()[function]
    call(**given)
    with pytest.raises(error, match=re.escape(text)):
        call(**{**given, **changed})


def test_shared_memory_is_refused() -> None:
    one = Tensor((1, 3, 3, 3))
    with pytest.raises(ValueError, match="tile is written and must not share memory with canvas"):
        tile_take(one, one, 0, 0)
    with pytest.raises(ValueError, match="planes is written and must not share memory with moves"):
        match_planes(one, one.slice(0).slice(0))
