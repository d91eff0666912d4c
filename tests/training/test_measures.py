"""Measures against formulas written a second time, and cases whose answers are known."""

import math

import numpy as np
import pytest
import torch

from engines.errors import SettingsError
from training.crops import crops
from training.measures import grid, grid_of, psnr, sharpness, ssim


@pytest.fixture(scope="module")
def originals():
    return [crop.original for crop in crops(2)]


def blurred(picture, sigma):
    """By the Fourier transform, with the picture mirrored on both sides."""
    mirrored = np.pad(picture, ((0, 0), (0, picture.shape[1]), (0, picture.shape[2])), mode="symmetric")
    rows, columns = np.fft.fftfreq(mirrored.shape[1]), np.fft.fftfreq(mirrored.shape[2])
    transfer = np.exp(-2 * np.pi**2 * sigma**2 * (rows[:, None] ** 2 + columns**2))
    smooth = np.fft.ifft2(np.fft.fft2(mirrored) * transfer).real[:, : picture.shape[1], : picture.shape[2]]
    return smooth.clip(0, 1).astype(np.float32)


def slow_ssim(x, y):
    x, y = (0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2] for p in (x.astype(np.float64), y.astype(np.float64)))
    weights = np.array([[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 4.5) for j in range(11)] for i in range(11)])
    weights /= weights.sum()
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            cov = (weights * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return sum(values) / len(values)


def test_psnr_of_a_known_difference_and_of_known_noise():
    original = np.full((3, 64, 64), 0.5, np.float32)
    assert psnr(original + np.float32(0.1), original) == pytest.approx(20, abs=1e-4)
    noise = np.random.RandomState(0).normal(0, 0.05, original.shape)
    assert psnr(original + noise, original) == pytest.approx(-20 * math.log10(0.05), abs=0.15)  # 12,288 samples
    assert psnr(original, original) == math.inf


def test_ssim_is_one_for_equals_and_agrees_with_a_slow_one(originals):
    crop = originals[0][:, :30, :25]
    other = np.clip(crop + np.random.RandomState(1).normal(0, 0.1, crop.shape), 0, 1).astype(np.float32)
    assert ssim(crop, crop) == pytest.approx(1, abs=1e-12)
    assert ssim(other, crop) == pytest.approx(slow_ssim(other, crop), abs=1e-9)
    assert ssim(torch.from_numpy(other), torch.from_numpy(crop)) == ssim(other, crop)


def test_sharpness_follows_the_contrast_and_falls_with_blur(originals):
    original = originals[0]
    half = (original + 0.5) / 2
    assert sharpness(half, original) == pytest.approx(0.5, abs=1e-6)
    assert sharpness(blurred(original, 2), original) < sharpness(blurred(original, 1), original) < 0.9


@pytest.mark.parametrize("period", [4, 8])
def test_a_grid_of_period_4_or_8_is_found(originals, period):
    rows, columns = np.mgrid[:256, :256]
    lines = np.float32(0.04) * ((rows % period == 0) | (columns % period == 0))
    smooth = [blurred(original, 1) for original in originals]
    assert grid_of([(picture + lines).clip(0, 1) for picture in smooth], originals) > 1.1


@pytest.mark.parametrize("sigma", [0.5, 1, 2])
def test_blur_alone_is_no_grid(originals, sigma):
    assert grid_of([blurred(original, sigma) for original in originals], originals) <= 1.1


def test_noise_and_other_periods_are_no_grid(originals):
    noise = np.random.RandomState(2)
    columns = np.arange(256) % 5 == 0
    noisy = [np.clip(o + noise.normal(0, 0.02, o.shape), 0, 1) for o in originals]
    striped = [np.clip(o + 0.04 * columns, 0, 1) for o in originals]
    assert grid_of(noisy, originals) <= 1.1
    assert grid_of(striped, originals) <= 1.1


def test_equal_and_flat_pictures_have_no_grid(originals):
    flat = np.zeros((3, 65, 65), np.float32)
    assert grid(originals[0], originals[0]) == 1
    assert grid(flat, flat) == 1


def test_one_periodic_crop_does_not_decide(originals):
    columns = (0.5 + 0.004 * np.cos(np.pi * np.arange(256) / 2)).astype(np.float32)
    fence = np.broadcast_to(columns, (3, 256, 256))
    many = originals * 4
    assert grid(originals[0] * 0.98 + fence * 0.02, originals[0]) < 1.1
    alone = np.clip(originals[0] + 3 * (fence - 0.5), 0, 1)
    assert grid(alone, originals[0]) > 1.1
    assert grid_of([alone, *many], [originals[0], *many]) < grid(alone, originals[0])


def test_wrong_pictures_are_refused():
    picture, small = np.zeros((3, 64, 64), np.float32), np.zeros((3, 10, 64), np.float32)
    with pytest.raises(SettingsError, match="of one size"):
        psnr(picture, small)
    with pytest.raises(SettingsError, match="11x11, not 64x10"):
        ssim(small, small)
    with pytest.raises(SettingsError, match="flat color"):
        sharpness(picture, picture)
    with pytest.raises(SettingsError, match="65x65, not 64x64"):
        grid(picture, picture)
    with pytest.raises(SettingsError, match="1 images, 0 originals"):
        grid_of([picture], [])
    with pytest.raises(SettingsError, match="of one size, given"):
        grid_of([picture, small], [picture, small])
