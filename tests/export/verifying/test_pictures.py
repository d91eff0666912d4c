"""Likeness of pictures, and the pictures of a report."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from export.verifying.pictures import difference_png, likeness, png
from training.measures import psnr, ssim


def picture(seed=0, size=(24, 40)):
    return np.random.default_rng(seed).random((1, 3, *size), np.float32)


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)), np.int16)


def test_equal_pictures():
    found = likeness(picture(), picture())
    assert found.psnr == math.inf
    assert found.ssim == pytest.approx(1)
    assert found.max_abs == 0


def test_psnr_and_ssim_are_the_training_room_s():
    first = picture()
    second = (first + 0.05 * picture(1)).clip(0, 1)
    found = likeness(first, second)
    assert found.psnr == pytest.approx(psnr(first[0], second[0]), rel=1e-9)
    assert found.ssim == pytest.approx(ssim(first[0], second[0]), rel=1e-9)
    assert found.max_abs == pytest.approx(np.abs(first - second).max())


def test_pictures_are_clamped_and_nan_counts_as_black():
    first = np.full((1, 3, 16, 16), 3.0, np.float32)
    assert likeness(first, np.ones_like(first)).psnr == math.inf
    broken = np.full_like(first, math.nan)
    assert likeness(broken, np.zeros_like(first)).psnr == math.inf
    assert likeness(broken, np.ones_like(first)).psnr == pytest.approx(0)


def test_difference_is_enlarged_around_grey():
    reference = np.full((1, 3, 16, 16), 0.5, np.float32)
    ours = reference.copy()
    ours[0, 0, 3, 4] += 0.01
    data, factor = difference_png(ours, reference)
    assert factor == 32  # the largest power of two that keeps 0.01 within half
    shown = opened(data)
    assert shown.shape == (16, 16, 3)
    assert shown[3, 4].tolist() == [round(255 * (0.5 + 32 * 0.01)), 128, 128]
    assert np.delete(shown.reshape(-1, 3), 3 * 16 + 4, axis=0).min() >= 127


def test_what_is_no_number_is_magenta():
    ours = np.full((1, 3, 16, 16), 0.5, np.float32)
    ours[0, 1, 2, 2] = math.nan
    ours[0, 2, 5, 5] = math.inf
    shown = opened(difference_png(ours, np.full_like(ours, 0.5))[0])
    assert shown[2, 2].tolist() == shown[5, 5].tolist() == [255, 0, 255]


def test_large_pictures_become_smaller():
    assert max(opened(png(picture(size=(16, 2048)))).shape) == 1024
