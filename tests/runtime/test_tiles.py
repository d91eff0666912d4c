"""Corners and windows of tiles, and when a picture is cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import SettingsError
from engines.profiles import Profile
from runtime.tiles import Axis, Grid, Tiling, batches, choose_grid, parse_tiling

ANY = Profile(min=(1, 8, 8), opt=(1, 64, 64), max=(8, 4096, 4096))


def fixed(height, width, batch=1):
    return Profile(min=(batch, height, width), opt=(batch, height, width), max=(batch, height, width))


@st.composite
def axes(draw):
    tile = draw(st.integers(2, 12)) * 8
    overlap = draw(st.integers(1, tile // 8 - 1)) * 8
    return Axis(size=tile + draw(st.integers(0, 30)) * 8, tile=tile, overlap=overlap)


@settings(max_examples=60, deadline=None)
@given(axis=axes(), factor=st.sampled_from([1, 8]))
def test_windows_add_up_to_one(axis, factor):
    total = np.zeros(axis.size * factor)
    for number, corner in enumerate(axis.corners):
        window = np.array(axis.window(number, factor))
        assert window.shape == (axis.tile * factor,)
        assert window.min() >= -1e-12
        assert window.max() <= 1
        total[corner * factor : (corner + axis.tile) * factor] += window
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(axis=axes())
def test_tiles_cover_the_axis_and_the_last_is_shifted(axis):
    corners = axis.corners
    assert corners[0] == 0
    assert corners[-1] + axis.tile == axis.size
    assert list(corners) == sorted(set(corners))
    assert all(corner % 8 == 0 for corner in corners)
    assert all(b - a == axis.tile - axis.overlap for a, b in pairwise(corners[:-1]))
    shared = [a + axis.tile - b for a, b in pairwise(corners)]
    assert all(count >= axis.overlap for count in shared)
    assert axis.shared == max(shared, default=0)


def test_margins_count_nothing_but_at_the_pictures_borders():
    axis = Axis(size=160, tile=64, overlap=16)
    assert axis.corners == (0, 48, 96)
    for number in range(3):
        window = axis.window(number)
        assert (window[:4] == (0.0,) * 4) == (number > 0)
        assert (window[-4:] == (0.0,) * 4) == (number < 2)
        assert number > 0 or window[:48] == (1.0,) * 48
    pixels = axis.window(1, 8)
    assert pixels[:32] == (0.0,) * 32  # more than the 31 that the wavelet fix looks aside
    assert pixels[32] > 0


def test_one_tile_counts_in_full():
    assert Axis(size=64, tile=64, overlap=0).window(0) == (1.0,) * 64


def test_a_grid():
    grid = Grid(y=Axis(size=64, tile=64, overlap=0), x=Axis(size=120, tile=64, overlap=16))
    assert (grid.canvas, grid.tile, grid.count) == ((64, 120), (64, 64), 3)
    assert grid.places == ((0, 0), (0, 1), (0, 2))
    assert list(batches(grid.places, 2)) == [((0, 0), (0, 1)), ((0, 2),)]


@pytest.mark.parametrize(
    ("profiles", "size", "tiling", "expected"),
    [
        ((ANY,), (192, 192), {}, None),
        ((ANY,), (193, 192), {}, ((64, 64), (96, 104))),
        ((ANY,), (1300, 20), {}, ((16, 64), (16, 656))),
        ((ANY,), (1000, 1000), {"tile": None}, None),
        ((ANY,), (64, 64), {"tile": 32}, None),
        ((ANY,), (65, 64), {"tile": 32}, ((32, 32), (32, 40))),
        ((fixed(64, 96),), (192, 128), {}, None),
        ((fixed(64, 96),), (193, 20), {}, ((64, 96), (64, 104))),
        ((fixed(128, 128),), (256, 256), {}, None),
        ((fixed(8, 8),), (17, 16), {}, None),  # refused by working_size
        ((fixed(64, 64), fixed(96, 96)), (300, 300), {}, ((96, 96), (152, 152))),
        ((fixed(64, 64, batch=4),), (300, 300), {}, ((64, 64), (152, 152))),
    ],
)
def test_when_a_picture_is_cut(profiles, size, tiling, expected):
    grid = choose_grid(Tiling(**tiling), profiles, *size)
    assert (None if grid is None else (grid.tile, grid.canvas)) == expected


def test_small_tiles_overlap_less():
    assert choose_grid(Tiling(tile=16), (ANY,), 100, 100).x.overlap == 8
    assert choose_grid(Tiling(tile=24), (ANY,), 100, 100).x.overlap == 16
    assert choose_grid(Tiling(tile=32, overlap=24), (ANY,), 100, 100).x.overlap == 24


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tile": 8}, r'tile must be "auto", "never" \(in Python None\) or a multiple of 8 in 16\.\.4096'),
        ({"tile": 60}, "tile must be"),
        ({"tile": 5000}, "tile must be"),
        ({"tile": True}, "tile must be"),
        ({"tile": "large"}, "tile must be"),
        ({"overlap": 12}, "tile_overlap must be a multiple of 8 from 8 on, or be left out, not 12"),
        ({"overlap": 0}, "tile_overlap must be"),
        ({"tile": 64, "overlap": 64}, "tile_overlap is 64, tiles are 64 pixels of the latent; take a smaller overlap"),
        ({"batch": 0}, "tile_batch must be a whole number from 1 on, or be left out, not 0"),
        ({"batch": 1.0}, "tile_batch must be"),
    ],
)
def test_settings_out_of_range(wrong, message):
    with pytest.raises(SettingsError, match=message):
        Tiling(**wrong)


def test_tiles_that_no_engine_takes():
    with pytest.raises(SettingsError, match="tile is 128, this bundle's engines take at most 64x64"):
        choose_grid(Tiling(tile=128), (fixed(64, 64),), 1000, 1000)
    with pytest.raises(SettingsError, match="tile_overlap is 32, tiles are 32"):
        choose_grid(Tiling(overlap=32), (fixed(32, 32),), 1000, 1000)


def test_settings_from_text():
    assert parse_tiling("auto", None, None) == Tiling()
    assert parse_tiling("never", None, 2) == Tiling(tile=None, batch=2)
    assert parse_tiling("48", 8, None) == Tiling(tile=48, overlap=8)
    for text in ("", "-8", "4x4", "²"):
        with pytest.raises(SettingsError, match="tile must be"):
            parse_tiling(text, None, None)
