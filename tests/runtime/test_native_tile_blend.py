"""tile_blend against NumPy in double, and its checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime import _native
from runtime._native import Tensor, tensor_from, tile_blend

Floats = npt.NDArray[np.float32]


def random(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize(
    ("tile", "canvas", "corner"),
    [
        ((1, 3, 1, 1), (1, 3, 1, 1), (0, 0)),
        ((2, 3, 5, 7), (1, 3, 9, 11), (4, 4)),
        ((1, 4, 64, 64), (1, 4, 64, 96), (0, 31)),
        ((3, 3, 200, 131), (1, 3, 201, 140), (1, 2)),
        ((1, 3, 0, 4), (1, 3, 2, 4), (1, 0)),
    ],
)
def test_in_double(tile: tuple[int, ...], canvas: tuple[int, ...], corner: tuple[int, int], simd: bool) -> None:
    (height, width), (y, x) = tile[2:], corner
    values, before = random(*tile), random(*canvas, seed=1)
    window_y, window_x = random(height, seed=2), random(width, seed=3)
    _native._set_simd(simd)
    for item in range(tile[0]):
        out = tensor_from(before)
        tile_blend(tensor_from(values), out, tensor_from(window_y), tensor_from(window_x), y, x, item)
        expected = before.astype(np.float64)
        weights = window_y.astype(np.float64)[:, None] * window_x
        expected[0, :, y : y + height, x : x + width] += weights * values[item]
        np.testing.assert_allclose(np.asarray(out), expected, rtol=0, atol=2e-7)
        outside = np.ones(canvas, bool)
        outside[..., y : y + height, x : x + width] = False
        np.testing.assert_array_equal(np.asarray(out)[outside], before[outside])
    _native._set_simd(True)


def test_windows_that_add_up_to_one_give_the_picture_back() -> None:
    picture = random(1, 3, 12, 20)
    ramp = np.linspace(0, 1, 6)[1:-1].astype(np.float32)
    left, right = np.r_[np.ones(8, np.float32), 1 - ramp], np.r_[ramp, np.ones(8, np.float32)]
    canvas, rows = Tensor((1, 3, 12, 20)), tensor_from(np.ones(12, np.float32))
    for x, window in ((0, left), (8, right)):
        tile = np.ascontiguousarray(picture[..., x : x + 12])
        tile_blend(tensor_from(tile), canvas, rows, tensor_from(window), 0, x)
    np.testing.assert_allclose(np.asarray(canvas), picture, rtol=0, atol=1e-6)


def test_any_threads_and_both_paths_give_the_same_bits() -> None:
    results = set()
    try:
        for simd in (True, False):
            for threads in (1, 2, 5):
                _native._set_simd(simd)
                _native.set_num_threads(threads)
                canvas = tensor_from(random(1, 3, 300, 301))
                windows = tensor_from(random(290, seed=1)), tensor_from(random(299, seed=2))
                tile_blend(tensor_from(random(1, 3, 290, 299, seed=3)), canvas, *windows, 5, 1)
                results.add(bytes(canvas))
    finally:
        _native._set_simd(True)
        _native.set_num_threads(2)
    assert len(results) == 1


def arguments() -> dict[str, Any]:
    return {
        "tile": Tensor((2, 3, 4, 5)),
        "canvas": Tensor((1, 3, 6, 7)),
        "window_y": Tensor((4,)),
        "window_x": Tensor((5,)),
        "y": 2,
        "x": 2,
    }


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"tile": Tensor((3, 4, 5))}, ValueError, r"tile: expected the layout \[B, C, h, w\]"),
        ({"tile": Tensor((2, 3, 4, 5), "float16")}, TypeError, "tile: expected dtype float32"),
        ({"tile": Tensor((0, 3, 4, 5))}, ValueError, "tile: expected at least one picture"),
        ({"canvas": Tensor((2, 3, 6, 7))}, ValueError, r"canvas: expected float32 \[1, C, H, W\]"),
        ({"canvas": Tensor((1, 4, 6, 7))}, ValueError, "canvas: expected .*channels of tile"),
        ({"canvas": Tensor((1, 3, 3, 7))}, ValueError, "canvas: expected .*sides no smaller"),
        ({"canvas": Tensor((1, 3, 6, 7), "float64")}, TypeError, "canvas: expected dtype float32"),
        ({"window_y": Tensor((5,))}, ValueError, r"window_y: expected float32 \[4\], got float32 \[5\]"),
        ({"window_x": Tensor((5, 1))}, ValueError, "window_x"),
        ({"y": 3}, ValueError, "y: expected 0 to 2, got 3"),
        ({"x": -1}, ValueError, "x: expected 0 to 2, got -1"),
        ({"x": 1.0}, TypeError, "x: expected an integer"),
        ({"item": 2}, ValueError, "item: expected 0 to 1, got 2"),
        ({"item": None}, TypeError, "item: expected an integer"),
    ],
)
def test_refused(changed: dict[str, Any], error: type[Exception], text: str) -> None:
    tile_blend(**arguments())
    with pytest.raises(error, match=text):
        tile_blend(**{**arguments(), **changed})


def test_shared_memory_is_refused() -> None:
    whole = Tensor((1, 1, 3, 4, 5))
    with pytest.raises(ValueError, match="canvas is written and must not share memory with tile"):
        tile_blend(whole.slice(0), whole.slice(0), Tensor((4,)), Tensor((5,)), 0, 0)
