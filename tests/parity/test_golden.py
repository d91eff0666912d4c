"""The real command lines against the official research code: export, restore, compare every intermediate.

Tolerances are the golden README's: the research code itself moves by 6e-5 in eps when oneDNN is switched off.
"""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from engines.bundle import open_bundle
from tests.parity.exporting import E2E_COND_DIFFER, E2E_MINI, exported_bundle
from tests.paths import REPOSITORY, needs_larger_golden

LATENT_TOLERANCE = 5e-4
IMAGE_TOLERANCE = 1e-4
CHANGED_BYTES = 0.005
IMAGES = ("preprocessed", "decoded", "colorfixed")
FP16_LATENT, FP16_IMAGE = 5e-2, 1e-2
"""Twice what was measured: fp16 weights have 11 bits, and some hundred layers add up."""
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


def pairs(trace, checkpoint, run):
    """(ours, the research code's) of every stage, by the trace's names."""
    golden = load_file(checkpoint.folder / f"{run[0]}.safetensors")
    size = run[4].removeprefix("input_").removesuffix(".png")
    expected = {
        "preprocessed": load_file(checkpoint.folder / f"preprocess_{size}.safetensors")["preprocess_raw"].clip(0, 1),
        "latent_mean": 0.18215 * golden["posterior_mean"],
        "latent_std": 0.18215 * np.exp(golden["posterior_logvar"] / 2),
        "condition": golden["c_latent"],
    }
    same_name = ("x0_hat", "eps", "pred_x0", "latents", "decoded", "colorfixed")
    expected |= {name: golden[name] for name in same_name if name in golden}
    return {name: (trace[name], value) for name, value in expected.items()}


def report(label, compared, picture):
    """Prints and returns the largest difference of each stage, the share of changed bytes and the PSNR."""
    errors = {name: float(np.abs(a - b).max()) for name, (a, b) in compared.items()}
    expected = to_bytes(compared["colorfixed" if "colorfixed" in compared else "decoded"][1])
    changed = np.abs(picture.astype(int) - expected.astype(int))
    mean_square = np.mean(changed.astype(float) ** 2)
    quality = 10 * np.log10(255**2 / mean_square) if mean_square else np.inf
    figures = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
    print(f"\n{label}: {figures}; bytes changed {np.mean(changed > 0):.2%}, PSNR {quality:.1f} dB")
    return errors, changed, quality


def check_against_golden(label, picture, trace, checkpoint, run):
    errors, changed, _ = report(label, pairs(trace, checkpoint, run), picture)
    for name, error in errors.items():
        tolerance = IMAGE_TOLERANCE if name in IMAGES else LATENT_TOLERANCE
        assert error <= tolerance, name
    assert changed.max() <= 1
    assert np.mean(changed > 0) < CHANGED_BYTES


@pytest.mark.parametrize(("checkpoint", "run"), CASES)
def test_fp32_is_the_reference_picture(tmp_path, checkpoint, run):
    picture, trace = restore(exported_bundle(checkpoint, "--precision", "fp32"), checkpoint, run, tmp_path)
    check_against_golden(f"fp32 {checkpoint.name} {run[0]}", picture, trace, checkpoint, run)


@pytest.mark.parametrize(("checkpoint", "run"), CASES)
def test_split_graphs_give_the_same_picture(tmp_path, checkpoint, run):
    bundle = exported_bundle(checkpoint, "--precision", "fp32", "--split-controlnet")
    assert not (bundle / "onnx/denoise").exists()
    picture, trace = restore(bundle, checkpoint, run, tmp_path)
    check_against_golden(f"split {checkpoint.name} {run[0]}", picture, trace, checkpoint, run)


def test_static_shape_and_baked_timesteps_give_the_same_picture(tmp_path):
    """With the forms for GPUs alone, so that a CPU runs the canonical graphs."""
    run = E2E_MINI.runs[0]
    options = ("--static", "16x16", "--bake-steps", "5", "1", "--device", "cuda")
    bundle = exported_bundle(E2E_MINI, "--precision", "fp32", *options)
    forms = {path.name for path in (bundle / "onnx").glob("*/*.onnx")}
    assert forms == {"model.onnx", "model.onnxruntime-cuda.onnx", "model.tensorrt-10.12.onnx"}
    manifest = open_bundle(bundle).manifest
    assert manifest.baked_timesteps == (499, 399, 299, 200, 100)
    assert manifest.plan.steps == 5
    picture, trace = restore(bundle, E2E_MINI, run, tmp_path)
    check_against_golden(f"static {E2E_MINI.name} {run[0]}", picture, trace, E2E_MINI, run)


@pytest.mark.parametrize(("checkpoint", "run"), CASES)
def test_fp16_is_near_fp32(tmp_path, checkpoint, run):
    picture, trace = restore(exported_bundle(checkpoint, "--precision", "fp16"), checkpoint, run, tmp_path)
    errors, _, quality = report(f"fp16 {checkpoint.name} {run[0]}", pairs(trace, checkpoint, run), picture)
    assert quality >= FP16_PSNR
    for name, error in errors.items():
        assert error <= (FP16_IMAGE if name in IMAGES else FP16_LATENT), name
