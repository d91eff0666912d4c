"""A real overflow of fp16, through ONNX Runtime: caught, and the picture made again by what computes in float32."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import runtime
from engines import backends
from engines.bundle import Bundle
from engines.ort import OnnxRuntime
from runtime.guard import LATENT_LIMIT, PICTURE_LIMIT
from runtime.trace import Trace
from tests.broken import overflowing
from tests.parity.exporting import E2E_MINI

GRAPHS = {"encode": "encode", "denoise": "denoise, step 1 (timestep 499)", "decode": "decode"}
"""The graph that overflows, and the stage that the guard names."""
PSNR = 45.0
"""fp16 weights against fp32 ones, as in `test_golden`."""


class CanonicalForm(OnnxRuntime):
    """An engine that runs canonical graphs on the CPU, as engines without a form of their own do."""

    name = "canonical"

    def open(self, bundle, graph, settings):
        graphs = {name: dataclasses.replace(entry, lowered={}) for name, entry in bundle.manifest.graphs.items()}
        manifest = dataclasses.replace(bundle.manifest, graphs=graphs)
        runner = super().open(Bundle(folder=bundle.folder, manifest=manifest), graph, settings)
        runner.description = self.prepare(settings)
        return runner

    def prepare(self, settings):
        return f"{super().prepare(settings)}, canonical form"


@pytest.fixture
def canonical(monkeypatch):
    """The name of an engine that is no CPU form, in the table of engines."""
    monkeypatch.setitem(backends.BACKENDS, "canonical", CanonicalForm)
    monkeypatch.setattr(backends, "ENGINES", (*backends.ENGINES, "canonical"))
    return "canonical"


@pytest.fixture(scope="module", params=GRAPHS)
def broken(request, mini_bundle_fp16, tmp_path_factory):
    """(graph, a bundle with the lowered forms, the same without)."""
    folder = tmp_path_factory.mktemp(request.param)
    bundles = [
        overflowing(mini_bundle_fp16, folder / name, request.param, lowered=name == "lowered")
        for name in ("lowered", "canonical")
    ]
    return request.param, *bundles


@pytest.fixture(scope="module")
def photo():
    with Image.open(E2E_MINI.folder / "input_sq.png") as image:
        return np.asarray(image.convert("RGB"))


def restored(bundle, photo, **settings):
    with runtime.Upscaler(bundle, **settings) as upscaler:
        return upscaler(photo, seed=7)


def psnr(a, b):
    error = np.mean((np.asarray(a.pixels).astype(float) - np.asarray(b.pixels)) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-12))


def test_without_a_fallback_the_overflow_is_an_error(broken, photo):
    graph, _, without_forms = broken
    for fallback in ("none", "auto"):  # on the CPU there is no other form of this bundle
        with pytest.raises(runtime.NonFiniteError) as raised:
            restored(without_forms, photo, device="cpu", fallback=fallback)
        assert raised.value.finding.startswith(f"{GRAPHS[graph]} gave NaN, expected at most ")


def test_the_form_for_the_cpu_makes_the_right_picture(broken, photo, canonical, mini_bundle):
    graph, folder, _ = broken
    result = restored(folder, photo, engine=canonical)
    itself = restored(folder, photo, device="cpu", fallback="none")
    assert bytes(memoryview(result.pixels)) == bytes(memoryview(itself.pixels))
    assert result.engine == itself.engine
    (hit,) = result.guard_hits
    assert hit.startswith(f"{GRAPHS[graph]} gave NaN")
    assert "canonical form" in hit
    assert result.notices == (f"{hit}; made again on {itself.engine}",)
    assert not itself.guard_hits
    assert psnr(result, restored(mini_bundle, photo, device="cpu")) >= PSNR


def test_the_named_bundle_makes_the_right_picture(broken, photo, mini_bundle):
    _, _, without_forms = broken
    result = restored(without_forms, photo, device="cpu", fallback=mini_bundle)
    itself = restored(mini_bundle, photo, device="cpu")
    assert bytes(memoryview(result.pixels)) == bytes(memoryview(itself.pixels))
    assert result.engine == itself.engine
    assert len(result.guard_hits) == 1


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_sound_bundles_stay_well_within_the_limits(precision, photo, request, tmp_path):
    bundle = request.getfixturevalue("mini_bundle" if precision == "fp32" else "mini_bundle_fp16")
    with runtime.Upscaler(bundle, device="cpu") as upscaler:
        for steps, order in ((1, 1), (5, 3), (50, 2)):
            trace = Trace()
            assert not upscaler(photo, steps=steps, order=order, trace=trace).guard_hits
            trace.write(tmp_path / "trace.safetensors")
            largest = {name: np.abs(tensor).max() for name, tensor in load_file(tmp_path / "trace.safetensors").items()}
            print(precision, steps, {name: round(value, 2) for name, value in largest.items()})
            assert max(largest[name] for name in ("latents", "x0_hat", "pred_x0")) < LATENT_LIMIT / 5
            assert largest["colorfixed"] < PICTURE_LIMIT / 5
