"""The real command lines against the official research code: export, restore, compare every intermediate.

Tolerances are the golden README's: the research code itself moves by 6e-5 in eps when oneDNN is switched off.
"""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tests.parity.exporting import E2E_COND_DIFFER, E2E_MINI, exported_bundle
from tests.paths import REPOSITORY, needs_larger_golden

LATENT_TOLERANCE = 5e-4
IMAGE_TOLERANCE = 1e-4
CHANGED_BYTES = 0.005
FP16_PSNR = 45.0
"""fp16 against fp32, in dB. Measured values are in docs/measurements."""

CASES = [pytest.param(E2E_MINI, run, id=f"mini-{run[0]}") for run in E2E_MINI.runs] + [
    pytest.param(E2E_COND_DIFFER, run, id=f"differ-{run[0]}", marks=needs_larger_golden) for run in E2E_COND_DIFFER.runs
]


def restore(bundle, checkpoint, run, folder):
    """The picture as uint8 and the trace of one golden run, through `python -m runtime`."""
    _, order, steps, fix, image = run
    out, trace = folder / "out.png", folder / "trace.safetensors"
    command = [sys.executable, "-m", "runtime", checkpoint.folder / image, "-o", out, "--bundle", bundle]
    command += ["--noise", "torch-cpu", "--seed", 42, "--steps", steps, "--order", order, "--color-fix", fix]
    command += ["--engine", "onnxruntime", "--device", "cpu", "--trace", trace]
    done = subprocess.run(
        list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    with Image.open(out) as picture:
        return np.asarray(picture), load_file(trace)


def to_bytes(image):
    return np.rint(np.clip(image[0].transpose(1, 2, 0), 0, 1) * np.float32(255)).astype(np.uint8)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def final(tensors):
    return tensors["colorfixed"] if "colorfixed" in tensors else tensors["decoded"]


def check_against_golden(picture, trace, checkpoint, run):
    golden = load_file(checkpoint.folder / f"{run[0]}.safetensors")
    size = run[4].removeprefix("input_").removesuffix(".png")
    preprocessed = load_file(checkpoint.folder / f"preprocess_{size}.safetensors")["preprocess_raw"].clip(0, 1)
    np.testing.assert_allclose(trace["preprocessed"], preprocessed, rtol=0, atol=1e-5)
    latents = {
        "latent_mean": 0.18215 * golden["posterior_mean"],
        "latent_std": 0.18215 * np.exp(golden["posterior_logvar"] / 2),
        "x0_hat": golden["x0_hat"],
        "condition": golden["c_latent"],
        "eps": golden["eps"],
        "pred_x0": golden["pred_x0"],
        "latents": golden["latents"],
    }
    for name, expected in latents.items():
        np.testing.assert_allclose(trace[name], expected, rtol=0, atol=LATENT_TOLERANCE, err_msg=name)
    np.testing.assert_allclose(
        trace["decoded"] if run[3] == "none" else trace["colorfixed"], final(golden), rtol=0, atol=IMAGE_TOLERANCE
    )
    difference = np.abs(picture.astype(int) - to_bytes(final(golden)).astype(int))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < CHANGED_BYTES


@pytest.mark.parametrize(("checkpoint", "run"), CASES)
def test_fp32_is_the_reference_picture(tmp_path, checkpoint, run):
    picture, trace = restore(exported_bundle(checkpoint, "--precision", "fp32"), checkpoint, run, tmp_path)
    check_against_golden(picture, trace, checkpoint, run)


@pytest.mark.parametrize(("checkpoint", "run"), CASES[:1] + CASES[3:4])
def test_split_graphs_give_the_same_picture(tmp_path, checkpoint, run):
    bundle = exported_bundle(checkpoint, "--precision", "fp32", "--split-controlnet")
    assert not (bundle / "onnx/denoise").exists()
    picture, trace = restore(bundle, checkpoint, run, tmp_path)
    check_against_golden(picture, trace, checkpoint, run)


@pytest.mark.parametrize(("checkpoint", "run"), CASES)
def test_fp16_is_near_fp32(tmp_path, checkpoint, run):
    picture, trace = restore(exported_bundle(checkpoint, "--precision", "fp16"), checkpoint, run, tmp_path)
    golden = load_file(checkpoint.folder / f"{run[0]}.safetensors")
    errors = {
        ours: np.abs(trace[ours] - golden[theirs]).max() / golden[theirs].std()
        for ours, theirs in (("condition", "c_latent"), ("eps", "eps"), ("latents", "latents"), ("decoded", "decoded"))
    }
    quality = psnr(picture, to_bytes(final(golden)))
    print(f"{checkpoint.name} {run[0]}: PSNR {quality:.1f} dB,", {k: f"{v:.1e}" for k, v in errors.items()})
    assert quality >= FP16_PSNR
    assert all(np.isfinite(value) for value in errors.values())


def test_static_shape_pads_and_gives_nearly_the_same_picture(tmp_path):
    """A picture of the fixed size is the reference's; a smaller one is padded, and so differs a little."""
    run = E2E_MINI.runs[0]
    bundle = exported_bundle(E2E_MINI, "--precision", "fp32", "--static", "16x16")
    picture, trace = restore(bundle, E2E_MINI, run, tmp_path)
    check_against_golden(picture, trace, E2E_MINI, run)
