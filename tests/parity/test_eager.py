"""The eager restoration that benchmarks compare with is the same restoration."""

import numpy as np
import pytest
from PIL import Image

import runtime
import solvers
from tests.parity.exporting import E2E_MINI, exported_bundle

torch = pytest.importorskip("torch")
eager = pytest.importorskip("benchmarks.eager")
reference_module = pytest.importorskip("export.reference")


@pytest.mark.parametrize("image", ["input_sq.png", "input_rect.png"])
def test_eager_is_what_the_runtime_does(image):
    folder = E2E_MINI.folder
    reference = reference_module.load_reference(
        folder / "model.ckpt", folder / "config.yaml", folder / "context.safetensors"
    )
    photo = Image.open(folder / image)
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    restored = eager.restore(reference, pixels, solvers.plan("dos-sde", steps=5, order=3), 42)
    with runtime.Upscaler(exported_bundle(E2E_MINI, "--precision", "fp32"), device="cpu") as upscaler:
        expected = np.asarray(upscaler(photo, steps=5, order=3, seed=42, noise="torch-cpu").image)
    found = np.rint(restored.image[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.005
    assert set(restored.timings) == {"preprocess", "encode", "denoise", "decode", "color_fix", "total"}
