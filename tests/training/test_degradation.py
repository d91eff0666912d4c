"""The degradation: shapes, range, determinism, and that its parts are what they say."""

import math

import numpy as np
import pytest
import torch

from training.degradation import degrade, gaussian_kernel, sinc_kernel


def picture(side=128):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([(x % 32 < 16).float(), (y % 24 < 12).float(), (x + y) / (2 * side)])


@pytest.mark.parametrize("seed", range(40))
def test_shape_range_and_grid_of_8_bits(seed):
    low = degrade(picture(), np.random.default_rng(seed))
    assert low.shape == (3, 32, 32)
    assert low.dtype == torch.float32
    assert 0 <= low.min() <= low.max() <= 1
    assert torch.equal(low, (low * 255).round() / 255)


def test_a_seed_decides_everything():
    first, again, other = (degrade(picture(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_keeps_the_picture():
    smooth = torch.nn.functional.avg_pool2d(picture(), 33, stride=1, padding=16, count_include_pad=False)
    small = torch.nn.functional.avg_pool2d(smooth, 4)
    errors = [(degrade(smooth, np.random.default_rng(seed)) - small).abs().mean() for seed in range(60)]
    assert np.median(errors) < 0.05
    assert np.std(errors) > 0.005  # they are not all alike


def test_noise_is_of_the_small_pictures_own_scale():
    """Noise that is added before the picture shrinks averages out; what a camera adds does not."""
    flat = torch.full((3, 128, 128), 0.5)
    deviations = [float(degrade(flat, np.random.default_rng(seed)).std()) * 255 for seed in range(80)]
    assert 4 < np.mean(deviations) < 12
    assert max(deviations) > 14


def test_rectangles():
    assert degrade(torch.rand(3, 64, 96), np.random.default_rng(0)).shape == (3, 16, 24)


def test_gaussian():
    kernel = gaussian_kernel(31, (2.0, 4.0), 0.0)
    reach = torch.arange(31) - 15.0
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert float((kernel.sum(dim=0) * reach**2).sum()) == pytest.approx(4, rel=0.01)
    assert float((kernel.sum(dim=1) * reach**2).sum()) == pytest.approx(16, rel=0.02)
    turned = gaussian_kernel(31, (2.0, 4.0), math.pi / 2)
    assert torch.allclose(turned, kernel.T, atol=1e-6)


def test_sinc_is_a_low_pass():
    kernel = sinc_kernel(21, math.pi / 2)
    response = torch.fft.fft2(kernel, s=(64, 64)).abs()
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    assert float(response[4, 0]) == pytest.approx(1, abs=0.1)
    assert float(response[28, 0]) < 0.1
