"""wavelet_fix and adain_fix: against the reference's vectors, and against NumPy in double at odd sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from runtime import _native
from runtime._native import Tensor, adain_fix, tensor_from, wavelet_fix
from tests.paths import SAMPLER

Doubles = npt.NDArray[np.float64]
GOLDEN: dict[str, npt.NDArray[Any]] = dict(load_file(SAMPLER / "colorfix.safetensors"))
CASES = sorted({key.rsplit("/", 1)[0] for key in GOLDEN})
FIXES = {"wavelet": wavelet_fix, "adain": adain_fix}

# The reference in float32 differs from itself in float64 by 2.2e-7, and so do we.
TOLERANCE = 2e-6


@pytest.mark.parametrize("fix", FIXES)
@pytest.mark.parametrize("case", CASES)
def test_reference(case: str, fix: str) -> None:
    content, style = tensor_from(GOLDEN[f"{case}/content"]), tensor_from(GOLDEN[f"{case}/style"])
    FIXES[fix](content, style)
    np.testing.assert_allclose(np.asarray(content), GOLDEN[f"{case}/{fix}"], rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(np.asarray(style), GOLDEN[f"{case}/style"])


def wavelet_in_double(content: Doubles, style: Doubles) -> Doubles:
    """Both decompositions, as the reference has them, by the full 3x3 kernel."""

    def low(image: Doubles) -> Doubles:
        for dilation in (1, 2, 4, 8, 16):
            pad = ((0, 0), (0, 0), (dilation, dilation), (dilation, dilation))
            padded = np.pad(image, pad, mode="edge")
            height, width = image.shape[2:]
            total = np.zeros_like(image)
            for dy, wy in enumerate((0.25, 0.5, 0.25)):
                for dx, wx in enumerate((0.25, 0.5, 0.25)):
                    window = padded[:, :, dy * dilation : dy * dilation + height, dx * dilation : dx * dilation + width]
                    total += wy * wx * window
            image = total
        return image

    return content - low(content) + low(style)


def adain_in_double(content: Doubles, style: Doubles) -> Doubles:
    def moments(image: Doubles) -> tuple[Doubles, Doubles]:
        single = image.shape[2] * image.shape[3] == 1
        variance = np.zeros((*image.shape[:2], 1, 1)) if single else image.var((2, 3), keepdims=True, ddof=1)
        return image.mean((2, 3), keepdims=True), np.sqrt(variance + 1e-5)

    (mean, std), (style_mean, style_std) = moments(content), moments(style)
    return (content - mean) / std * style_std + style_mean


DOUBLES: dict[str, Callable[[Doubles, Doubles], Doubles]] = {"wavelet": wavelet_in_double, "adain": adain_in_double}
SIZES = [(1, 1), (1, 2), (2, 1), (3, 130), (130, 3), (15, 16), (17, 33), (31, 32), (64, 65), (190, 210)]


@pytest.mark.parametrize("fix", FIXES)
@pytest.mark.parametrize("size", SIZES)
def test_odd_sizes_in_double(size: tuple[int, int], fix: str) -> None:
    rng = np.random.default_rng(size)
    content, style = (rng.random((2, 3, *size)).astype(np.float32) for _ in range(2))
    fixed = tensor_from(content)
    FIXES[fix](fixed, tensor_from(style))
    expected = DOUBLES[fix](content.astype(np.float64), style.astype(np.float64))
    np.testing.assert_allclose(np.asarray(fixed), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("fix", FIXES)
def test_any_threads_give_the_same_bits(fix: str) -> None:
    rng = np.random.default_rng(0)
    content, style = (rng.random((1, 3, 301, 277)).astype(np.float32) for _ in range(2))
    results = set()
    try:
        for threads in (1, 2, 7):
            _native.set_num_threads(threads)
            fixed = tensor_from(content)
            FIXES[fix](fixed, tensor_from(style))
            results.add(bytes(fixed))
    finally:
        _native.set_num_threads(2)
    assert len(results) == 1


@pytest.mark.parametrize("fix", FIXES)
def test_an_image_is_its_own_style(fix: str) -> None:
    """The same memory on both sides is allowed, and changes next to nothing."""
    image = np.random.default_rng(1).random((1, 3, 40, 41)).astype(np.float32)
    fixed = tensor_from(image)
    FIXES[fix](fixed, fixed)
    np.testing.assert_allclose(np.asarray(fixed), image, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("fix", FIXES)
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1, 0, 4, 4), (1, 3, 0, 4), (1, 3, 4, 0)])
def test_empty_images(shape: tuple[int, ...], fix: str) -> None:
    content = Tensor(shape)
    FIXES[fix](content, Tensor(shape))
    assert content.shape == shape


def test_adain_of_flat_and_bright_images() -> None:
    """A large mean over a small spread: sums in float32 would lose the variance."""
    rng = np.random.default_rng(2)
    content = (1000 + rng.random((1, 1, 300, 300)) * 1e-2).astype(np.float32)
    style = rng.random((1, 1, 300, 300)).astype(np.float32)
    fixed = tensor_from(content)
    adain_fix(fixed, tensor_from(style))
    expected = adain_in_double(content.astype(np.float64), style.astype(np.float64))
    # One unit in the last place of the mean, 6e-5, times the gain of about 70.
    np.testing.assert_allclose(np.asarray(fixed), expected, rtol=0, atol=5e-3)
    assert np.asarray(fixed).std() == pytest.approx(expected.std(), rel=1e-3)


@pytest.mark.parametrize("fix", FIXES)
@pytest.mark.parametrize(
    ("content", "style", "error", "text"),
    [
        (Tensor((3, 4, 4)), Tensor((3, 4, 4)), ValueError, r"content: expected the layout \[B, C, H, W\]"),
        (Tensor((1, 3, 4, 4)), Tensor((1, 3, 4, 5)), ValueError, r"style: expected .*\[1, 3, 4, 4\], got .*5\]"),
        (Tensor((1, 3, 4, 4), "float16"), Tensor((1, 3, 4, 4)), TypeError, "content: expected dtype float32"),
        (Tensor((1, 3, 4, 4)), Tensor((1, 3, 4, 4), "uint8"), TypeError, "style: expected dtype float32"),
        (None, Tensor((1, 3, 4, 4)), TypeError, "."),
        (Tensor((1, 3, 4, 4)), np.zeros((1, 3, 4, 4), np.float32), TypeError, "."),
    ],
)
def test_refused(fix: str, content: Tensor, style: Tensor, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        FIXES[fix](content, style)
