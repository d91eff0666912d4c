"""The torch reference (diffusers modules, solver in float64) against every engine, per stage and per step.

A new engine joins by one line in ENGINES.
"""

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import runtime
import solvers
from engines.backends import backend_named
from engines.base import EngineSettings
from engines.bundle import open_bundle
from engines.errors import EngineUnavailableError
from engines.graphs import resolve_shape
from runtime.kernels import Tensor
from runtime.trace import Trace
from tests.gpu import gpu_missing
from tests.parity.exporting import E2E_COND_DIFFER, E2E_MINI, exported_bundle
from tests.paths import needs_larger_golden

torch = pytest.importorskip("torch")
reference_module = pytest.importorskip("export.reference")

ON_A_GPU = [pytest.mark.gpu, pytest.mark.skipif(bool(gpu_missing()), reason=gpu_missing())]
ENGINES = [("onnxruntime", "cpu"), pytest.param("onnxruntime", "cuda", marks=ON_A_GPU)]
"""(engine, device)."""

CHECKPOINTS = [
    pytest.param(E2E_MINI, id="mini"),
    pytest.param(E2E_COND_DIFFER, id="differ", marks=needs_larger_golden),
]
GRAPH_TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
"""max|difference| / std: the gate of `export.build`. fp16 has 11 significant bits, and some 100 layers add up."""
PICTURE_PSNR = {"fp32": 80.0, "fp16": 45.0}


@pytest.fixture(scope="module", params=CHECKPOINTS)
def checkpoint(request):
    return request.param


@pytest.fixture(scope="module")
def reference(checkpoint):
    folder = checkpoint.folder
    return reference_module.load_reference(
        folder / "model.ckpt", folder / "config.yaml", folder / "context.safetensors"
    )


@pytest.fixture(autouse=True)
def engine_is_there(engine, device):
    try:
        backend_named(engine).prepare(EngineSettings(device=device))
    except EngineUnavailableError as error:
        pytest.skip(str(error))


def network_input(name, shape, generator):
    if name == "timestep":
        return np.full(shape, 299, np.float32)
    if name == "control_scale":
        return np.ones(shape, np.float32)
    return generator.random(shape, np.float32) if name == "image" else generator.standard_normal(shape, np.float32)


@pytest.mark.parametrize(("engine", "device"), ENGINES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("graph", ["preprocess", "encode", "condition", "denoise", "decode"])
def test_each_stage_on_the_same_input(checkpoint, reference, graph, precision, engine, device):
    bundle = open_bundle(exported_bundle(checkpoint, "--precision", precision))
    if graph not in bundle.manifest.graphs:
        assert graph == "condition"
        assert checkpoint is E2E_MINI
        return
    spec = bundle.manifest.graphs[graph].spec
    sizes = {"B": 1, "H": 24, "W": 8, "h": 48, "w": 16}
    generator = np.random.default_rng(3)
    arrays = {s.name: network_input(s.name, resolve_shape(s.shape, sizes), generator) for s in spec.inputs}
    tensors = {s.name: Tensor(resolve_shape(s.shape, sizes)) for s in (*spec.inputs, *spec.outputs)}
    for name, array in arrays.items():
        tensors[name].copy_from(array)
    runner = backend_named(engine).open(bundle, graph, EngineSettings(device=device))
    runner.bind(tensors).run()
    with torch.inference_mode():
        expected = getattr(reference, graph)(*(torch.from_numpy(arrays[s.name]) for s in spec.inputs))
    expected = expected if isinstance(expected, tuple) else (expected,)
    for output, tensor in zip(spec.outputs, expected, strict=True):
        difference = np.abs(np.asarray(memoryview(tensors[output.name])) - tensor.numpy())
        assert difference.max() / tensor.std().item() <= GRAPH_TOLERANCE[precision], output.name


def reference_run(reference, plan, image, noise):
    """The whole pipeline in torch with the solver in float64; every latent, and the decoded picture."""
    with torch.inference_mode():
        preprocessed = reference.preprocess(image)
        mean, std = reference.encode(preprocessed)
        condition = reference.condition(preprocessed)
        x0_hat = (mean + std * noise[0]).double()
        x = plan.start[0] * x0_hat + plan.start[1] * noise[1].double()
        latents, predictions = [x], []
        for step, z in zip(plan.steps, noise[2:], strict=True):
            output = reference.denoise(x.float(), condition, torch.tensor([step.timestep]), torch.ones(1)).double()
            predictions.insert(0, step.p_x * x + step.p_out * output + step.p_hat * x0_hat)
            history = sum(c * p for c, p in zip(step.c_p, predictions, strict=False))
            x = step.c_x * x + step.c_hat * x0_hat + history + step.c_z * z.double()
            latents.append(x)
        return torch.stack(latents), reference.decode(x.float())


@pytest.mark.parametrize(("engine", "device"), ENGINES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_step_of_a_whole_run(tmp_path, checkpoint, reference, order, precision, engine, device):
    """Another picture, size, seed and step count than the golden files hold; same noise on both sides."""
    steps, pixels = 4, np.asarray(Image.effect_noise((16, 48), 90).resize((16, 48)).convert("RGB"))
    generator = torch.Generator().manual_seed(11)
    noise = [torch.randn((1, 4, 24, 8), generator=generator) for _ in range(steps + 2)]
    plan = solvers.plan(steps=steps, order=order)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    latents, decoded = reference_run(reference, plan, image, noise)
    trace = Trace()
    bundle = exported_bundle(checkpoint, "--precision", precision)
    with runtime.Upscaler(bundle, engine=engine, device=device) as upscaler:
        upscaler(pixels, steps=steps, order=order, noise=noise, color_fix="none", trace=trace)
    trace.write(tmp_path / "trace.safetensors")
    ours = load_file(tmp_path / "trace.safetensors")
    for step, (a, b) in enumerate(zip(ours["latents"], latents.numpy(), strict=True)):
        tolerance = {"fp32": 5e-4, "fp16": 5e-2}[precision]
        assert np.abs(a - b).max() <= tolerance * max(1, b.std()), f"after step {step}"
    error = np.mean((ours["decoded"].clip(0, 1) - decoded.numpy().clip(0, 1)) ** 2)
    assert 10 * np.log10(1 / max(error, 1e-12)) >= PICTURE_PSNR[precision]
