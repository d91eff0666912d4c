"""Objective, networks, loop and checkpoint: what is trained is what the export reads and the solver expects."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import solvers
from engines.bundle import Schedule
from engines.errors import DossrError
from export import forward
from export.reference import Reference
from export.source import open_source
from training import demo
from training.checkpoint import CONFIG, CONTEXT, WEIGHTS, save_checkpoint
from training.config import ARCHITECTURE, Demo, Losses, Stage
from training.data import Pairs
from training.latents import LatentEncoder, draw_latent, measure_scale
from training.loop import rate, train
from training.measures import ssim
from training.networks import Denoiser, Discriminator, create_rrdbnet, create_vae
from training.objective import DomainShift
from training.plots import plot_losses
from training.tasks import Enlarge, local_energy, structural_similarity

TINY = dataclasses.replace(
    ARCHITECTURE,
    vae=dataclasses.replace(ARCHITECTURE.vae, channels=(32, 32, 32, 32)),
    rrdb=dataclasses.replace(ARCHITECTURE.rrdb, features=8, blocks=1, growth=4),
    unet=dataclasses.replace(ARCHITECTURE.unet, channels=(32, 32, 32, 32)),
    controlnet=dataclasses.replace(ARCHITECTURE.controlnet, channels=(32, 32, 32, 32)),
)


def latents(batch, seed, side=8):
    return torch.randn(batch, 4, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def shift():
    return DomainShift.of(Schedule(), torch.device("cpu"))


def test_the_shift_is_that_of_the_solvers(shift):
    for step in solvers.plan("dos-sde", steps=7).steps:
        assert float(shift.alpha[int(step.timestep)]) == pytest.approx(step.alpha, rel=1e-6)
        assert float(shift.sigma[int(step.timestep)]) == pytest.approx(step.sigma, rel=1e-6)
    assert float(shift.eta[0]) == pytest.approx(0.0, abs=1e-4)
    assert float(shift.eta[499]) == pytest.approx(1.0, abs=1e-4)
    assert float(shift.eta[999]) == 1


def test_true_noise_gives_the_mixture_back(shift):
    x0, x0_hat, noise = (latents(3, seed) for seed in range(3))
    timestep = torch.tensor([0, 250, 499])
    x_t = shift.mix(x0, x0_hat, noise, timestep)
    eta = shift.eta[timestep][:, None, None, None]
    expected = eta * x0_hat + (1 - eta) * x0
    assert torch.allclose(shift.denoise(x_t, noise, timestep), expected, atol=1e-5)


def test_the_predicted_x0_is_the_plans(shift):
    x_t, output = latents(1, 1), latents(1, 2)
    step = solvers.plan("dos-sde", steps=5).steps[2]
    planned = step.p_x * x_t + step.p_out * output
    assert torch.allclose(shift.denoise(x_t, output, torch.tensor([int(step.timestep)])), planned, atol=1e-5)


def test_the_autoencoder_begins_as_an_average():
    torch.manual_seed(0)
    vae = create_vae(ARCHITECTURE)
    coarse = torch.rand(1, 3, 8, 8) * 1.2 - 0.6
    image = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="nearest")
    with torch.no_grad():
        mean = forward.vae_encode(vae, image)[:, :4]
        decoded = forward.vae_decode(vae, mean)
    for one, other in ((mean[:, :3], coarse), (decoded, image)):
        assert float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) > 0.95


def test_the_control_begins_as_the_unet():
    torch.manual_seed(0)
    network = Denoiser(TINY).eval()
    timestep = torch.tensor([10.0, 400.0])
    with torch.no_grad():
        alone = network(latents(2, 0), timestep)
        network.start_control()
        controlled = network(latents(2, 0), timestep, latents(2, 1))
    assert torch.equal(alone, controlled)


def test_context_and_condition_are_learned():
    torch.manual_seed(0)
    network = Denoiser(TINY)
    network(latents(1, 0), torch.tensor([5.0]), latents(1, 1)).square().mean().backward()
    assert float(network.context.grad.abs().max()) > 0
    assert all(weight.grad is not None for weight in network.parameters())


def test_a_checkpoint_is_what_was_trained(tmp_path):
    """The export's reference, opened from the files, computes what the training modules compute."""
    torch.manual_seed(0)
    rrdbnet, vae, denoiser = create_rrdbnet(TINY), create_vae(TINY), Denoiser(TINY).eval()
    options = {"rrdbnet": rrdbnet, "vae": vae, "denoiser": denoiser, "scale_factor": 0.75}
    save_checkpoint(tmp_path, TINY, **options, dtype=torch.float32)
    source = open_source(tmp_path / WEIGHTS, tmp_path / CONFIG, tmp_path / CONTEXT)
    assert source.architecture == TINY
    assert source.scale_factor == 0.75
    assert not source.separate_condition
    reference = Reference(source)
    image, low = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 16, 16)
    encode = LatentEncoder(rrdbnet, vae, 0.75, torch.device("cpu"))
    with torch.no_grad():
        moments, degraded = encode((image, low))
        assert torch.allclose(torch.cat(reference.encode(image), dim=1), moments, atol=1e-6)
        enlarged = reference.preprocess(low)
        assert torch.allclose(torch.cat(reference.encode(enlarged), dim=1), degraded, atol=1e-6)
        x, condition = latents(1, 0), degraded[:, :4]
        expected = denoiser(x, torch.tensor([299.0]), condition)
        assert torch.allclose(reference.denoise(x, condition, 299.0), expected, atol=1e-5)
        decoded = (forward.vae_decode(vae, x / 0.75) + 1) / 2
        assert torch.allclose(reference.decode(x), decoded, atol=1e-5)


def test_the_conditions_encoder_takes_no_room(tmp_path):
    torch.manual_seed(0)
    vae = create_vae(TINY)
    networks = {"rrdbnet": create_rrdbnet(TINY), "vae": vae, "denoiser": Denoiser(TINY)}
    save_checkpoint(tmp_path, TINY, **networks, scale_factor=1.0)
    numbers = sum(weight.numel() for network in networks.values() for weight in network.parameters())
    assert (tmp_path / WEIGHTS).stat().st_size < 2 * numbers + 300_000


def test_scale_and_draw():
    torch.manual_seed(0)
    vae, images = create_vae(TINY), torch.rand(2, 3, 64, 64)
    scale = measure_scale(vae, images)
    mean, _ = LatentEncoder(create_rrdbnet(TINY), vae, scale, torch.device("cpu"))((images, torch.rand(2, 3, 16, 16)))
    assert float(mean[:, :4].std()) == pytest.approx(1, rel=1e-3)
    moments = torch.cat([torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), 0.5)], dim=1)
    assert float(draw_latent(moments, torch.ones(1, 4, 2, 2)).mean()) == pytest.approx(3.5)


def test_rate_rises_and_falls():
    stage = Stage(steps=1000, batch=1, crop=64, learning_rate=1.0, warm_up=100, decay=0.3)
    rates = [rate(stage, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[99] == rates[600] == pytest.approx(1)
    assert rates[700:] == sorted(rates[700:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.001)


def test_local_energy_and_discriminator():
    flat, edges = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    edges[..., 16:] = 1
    assert float(local_energy(flat).max()) < 0.01
    assert float(local_energy(edges).max()) == pytest.approx(1 / 7, rel=0.05)
    assert Discriminator()(torch.rand(2, 3, 64, 48)).shape == (2, 1, 8, 6)


def test_structural_similarity():
    original = torch.nn.functional.interpolate(latents(2, seed=7)[:, :1].sigmoid(), size=(48, 48), mode="bicubic")
    original = original.expand(-1, 3, -1, -1)  # grey, as the evaluation looks at the luma alone
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(8))
    assert float(structural_similarity(original, original)) == pytest.approx(1, abs=1e-6)
    for strength in (0.01, 0.05, 0.2):
        noisy = original + strength * noise[:, :1]
        judged = np.mean([ssim(one.numpy(), other.numpy()) for one, other in zip(noisy, original, strict=True)])
        assert float(structural_similarity(noisy, original)) == pytest.approx(judged, abs=0.1)


class StoppedError(Exception):
    pass


def enlarge(steps, folder, stop_at=None):
    """Trains a tiny RRDBNet; `stop_at` breaks off at the first line of progress after the state was written."""
    torch.manual_seed(5)
    stage = Stage(steps=steps, batch=1, crop=32, learning_rate=1e-3, warm_up=5)
    generator = torch.Generator().manual_seed(1)
    samples = TensorDataset(
        torch.rand(steps, 3, 32, 32, generator=generator), torch.rand(steps, 3, 8, 8, generator=generator)
    )
    task = Enlarge(create_rrdbnet(TINY), stage, (torch.rand(1, 3, 32, 32), torch.rand(1, 3, 8, 8)), Losses())

    def say(line):
        if stop_at is not None and f" {stop_at}/" in line:
            raise StoppedError

    train(task, stage, samples, folder, seed=3, save_seconds=0.0 if stop_at else 1e9, say=say)
    return task.network.state_dict()


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    whole = enlarge(120, tmp_path / "whole")
    with pytest.raises(StoppedError):
        enlarge(120, tmp_path / "parts", stop_at=100)
    assert (tmp_path / "parts" / "state.pt").exists()
    continued = enlarge(120, tmp_path / "parts")
    assert not (tmp_path / "parts" / "state.pt").exists()
    for name, weight in whole.items():
        assert torch.allclose(weight, continued[name], atol=1e-6), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert steps == [50, 100]
    again = enlarge(120, tmp_path / "whole")  # finished: taken up, not trained
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())


def test_a_run_that_went_on_with_more_to_log_is_drawn(tmp_path):
    lines = [{"step": 50, "l1": 0.5}, {"step": 100, "l1": 0.4, "ssim": 0.6}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    plot_losses(tmp_path)
    with Image.open(tmp_path / "loss.png") as drawn:
        assert drawn.size == (800, 300)


def test_samples_depend_on_their_number_alone():
    pairs = Pairs(seed=1, stage=2, length=4, side=64, degraded=True)
    original, low = pairs[3]
    assert original.shape == (3, 64, 64)
    assert low.shape == (3, 16, 16)
    assert torch.equal(original, Pairs(seed=1, stage=2, length=9, side=64, degraded=True)[3][0])
    assert not torch.equal(original, pairs[2][0])
    assert not torch.equal(original, Pairs(seed=1, stage=3, length=4, side=64, degraded=True)[3][0])
    assert Pairs(seed=1, stage=2, length=4, side=64, degraded=False)[0][1].numel() == 0


def short_recipe(latent_pairs):
    def stage(crop):
        return Stage(steps=2, batch=1, crop=crop, learning_rate=1e-3)

    return Demo(
        architecture=TINY,
        latent_pairs=latent_pairs,
        rrdbnet=stage(32),
        vae=stage(64),
        decoder=stage(64),
        unet=stage(64),
        domain_shift=stage(64),
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("latent_pairs", [0, 2])
def test_every_stage_on_a_gpu(tmp_path, latent_pairs):
    device = torch.device("cuda")
    run = demo.Run(demo=short_recipe(latent_pairs), folder=tmp_path, device=device, workers=2, say=str)
    run.checkpoint()
    assert open_source(*(tmp_path / "checkpoint" / name for name in (WEIGHTS, CONFIG, CONTEXT))).scale_factor > 0


@pytest.mark.parametrize("latent_pairs", [0, 2])
def test_every_stage_and_its_checkpoint(tmp_path, latent_pairs):
    recipe = short_recipe(latent_pairs)
    lines = []
    run = demo.Run(demo=recipe, folder=tmp_path, device=torch.device("cpu"), workers=0, say=lines.append)
    run.checkpoint()
    assert lines[-1] == f"wrote {tmp_path / 'checkpoint'}"
    source = open_source(*(tmp_path / "checkpoint" / name for name in (WEIGHTS, CONFIG, CONTEXT)))
    assert source.scale_factor == run.scale_factor()
    assert (tmp_path / "latents.safetensors").exists() == bool(latent_pairs)
    for name in demo.STAGES[:-1]:
        assert (tmp_path / name / "picture.png").stat().st_size > 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("weights.safetensors")}
    assert len(before) == 5
    run.checkpoint()
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "vae"], "--set 'vae': expected STAGE.FIELD=VALUE"),
        (["--set", "text.steps=3"], "a stage of rrdbnet, vae, decoder, unet, domain_shift"),
        (["--set", "vae.decay=3"], "a field of steps, batch, crop, learning_rate, warm_up"),
        (["--set", "vae.batch=0"], "a value above 0"),
        (["--set", "vae.batch=1.5"], "a value above 0"),
        (["--set", "unet.crop=96"], "a multiple of 64"),
        (["--timesteps", "1001"], "expected 1 to 1000"),
        (["--latent-pairs", "-1"], "expected 0 or more"),
        (["--stages", "all"], "invalid choice"),
    ],
)
def test_wrong_settings_are_named(tmp_path, arguments, said):
    with pytest.raises(DossrError) as error:
        demo.main(["--out", str(tmp_path / "out"), *arguments])
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_settings_change_the_recipe():
    text = ["--out", "out", "--set", "vae.steps=30", "unet.learning_rate=1e-3", "--latent-pairs", "7", "--seed", "5"]
    recipe = demo.recipe(demo.parser().parse_args(text))
    assert recipe.vae == dataclasses.replace(Demo.vae, steps=30)
    assert recipe.unet.learning_rate == 1e-3
    assert (recipe.latent_pairs, recipe.seed, recipe.domain_shift) == (7, 5, Demo.domain_shift)


def test_numpy_and_torch_generators_are_apart():
    """Samples come from NumPy's generators, the losses' noise from torch's: neither disturbs the other."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Pairs(seed=1, stage=2, length=1, side=32, degraded=True)[0]
    assert torch.equal(before, torch.get_rng_state())
    assert np.random.default_rng([1, 2, 0]).random() == np.random.default_rng([1, 2, 0]).random()
