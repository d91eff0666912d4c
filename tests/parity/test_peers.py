"""The peers that `dossr bench` compares with restore the same picture; counted work is what torch counts."""

import numpy as np
import pytest
from PIL import Image

import runtime
import solvers
from engines.bundle import open_bundle
from runtime.bench.work import graph_work
from tests.parity.exporting import E2E_MINI, exported_bundle

torch = pytest.importorskip("torch")
networks_module = pytest.importorskip("export.peers.networks")
restore_module = pytest.importorskip("export.peers.restore")
reference_module = pytest.importorskip("export.reference")

FOLDER = E2E_MINI.folder


def setup(device="cpu"):
    return networks_module.Setup(
        bundle=exported_bundle(E2E_MINI, "--precision", "fp32"),
        checkpoint=FOLDER / "model.ckpt",
        config=FOLDER / "config.yaml",
        context=FOLDER / "context.safetensors",
        device=device,
        threads=2,
    )


def opened(name):
    if name == "openvino":
        pytest.importorskip("openvino")
    return networks_module.PEERS[name](setup())


@pytest.mark.parametrize("image", ["input_sq.png", "input_rect.png"])
@pytest.mark.parametrize("name", ["eager", "eager-channels-last", "onnxruntime", "openvino"])
def test_a_peer_does_what_the_runtime_does(name, image):
    photo = Image.open(FOLDER / image)
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    restored = restore_module.restore(opened(name), pixels, solvers.plan("dos-sde", steps=5, order=3), 42)
    with runtime.Upscaler(setup().bundle, device="cpu") as upscaler:
        expected = np.asarray(upscaler(photo, steps=5, order=3, seed=42, noise="torch-cpu").image)
    found = np.rint(restored.image[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.005
    assert set(restored.timings) == {"preprocess", "encode", "denoise", "decode", "color_fix", "total"}


def test_half_in_pytorch():
    """One call of the smallest graph: halves on a CPU are slow."""
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        (half,), (full,) = (opened(name).call("preprocess", image) for name in ("eager-half", "eager"))
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.01


def test_compiled_pytorch_is_described():
    assert "compiled" in opened("compile").description


def test_split_controlnet():
    photo = Image.open(FOLDER / "input_sq.png")
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    plan = solvers.plan(steps=1)
    whole = restore_module.restore(opened("onnxruntime"), pixels, plan, 7).image
    split = exported_bundle(E2E_MINI, "--precision", "fp32", "--split-controlnet")
    parts = networks_module.PEERS["onnxruntime"](networks_module.Setup(**vars(setup()) | {"bundle": split}))
    assert not parts.has("denoise")
    torch.testing.assert_close(restore_module.restore(parts, pixels, plan, 7).image, whole, atol=1e-4, rtol=0)


def test_counted_arithmetic_is_what_torch_counts():
    """torch counts a module as it runs, attention by its two products; we count the file."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    bundle = open_bundle(setup().bundle)
    reference = reference_module.load_reference(
        FOLDER / "model.ckpt", FOLDER / "config.yaml", FOLDER / "context.safetensors"
    )
    sizes = {"B": 1, "H": 16, "W": 24, "h": 32, "w": 48}
    latent, low_res, image = torch.rand(1, 4, 16, 24), torch.rand(1, 3, 32, 48), torch.rand(1, 3, 128, 192)
    inputs = {
        "preprocess": (low_res,),
        "encode": (image,),
        "denoise": (latent, latent, torch.tensor([299.0]), torch.ones(1)),
        "decode": (latent,),
    }
    for name, given in inputs.items():
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            reference.modules[name](*given)
        ours = graph_work(bundle.path(bundle.manifest.graphs[name].file), sizes).flops
        assert ours == counter.get_total_flops() > 0, name
