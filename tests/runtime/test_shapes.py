"""Engines that take fixed shapes alone: pictures are padded to them, in batches too."""

import numpy as np
import pytest

import runtime
from engines.errors import ImageTooLargeError, SettingsError
from engines.ort import OnnxRuntime
from engines.profiles import parse_profile
from tests.tiny import write_tiny_bundle

SIZES = [(20, 12), (20, 12), (20, 12), (40, 30), (20, 12)]


@pytest.fixture
def engines_take(monkeypatch):
    """Lets ONNX Runtime take certain shapes alone, as compiled engines do."""

    def take(*profiles):
        found = tuple(parse_profile(profile) for profile in profiles)
        monkeypatch.setattr(OnnxRuntime, "profiles", lambda *_: found)

    return take


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def photo(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def restored(bundle, *, batch):
    with runtime.Upscaler(bundle, device="cpu") as upscaler:
        pictures = [photo(*size, seed) for seed, size in enumerate(SIZES)]
        return [bytes(memoryview(result.pixels)) for result in upscaler.stream(pictures, batch=batch)]


def test_a_batch_that_is_not_full_is_padded(bundle, engines_take):
    engines_take("1x16x16", "1x24x24")
    alone = restored(bundle, batch=1)
    engines_take("4x16x16", "1x24x24")
    assert restored(bundle, batch=3) == alone
    assert restored(bundle, batch=4) == alone


def test_batches_are_as_large_as_a_size_allows(bundle, engines_take, caplog):
    engines_take("4x8x8", "1x24x24")
    with (
        runtime.Upscaler(bundle, device="cpu") as upscaler,
        pytest.raises(ImageTooLargeError, match="takes at most 16x16 or 48x48; crop it"),
    ):
        upscaler(photo(50, 40), tile=None)
    assert len(restored(bundle, batch=4)) == len(SIZES)
    assert "padded, here to 48x48" in caplog.text


def test_a_batch_beyond_every_profile_is_named(bundle, engines_take):
    engines_take("2x16x16")
    with pytest.raises(SettingsError, match=r"batch must be a whole number in 1\.\.2, which the engines take, not 3"):
        restored(bundle, batch=3)
