"""Baked timesteps: what they compute, what they drop, and that nothing else is asked of them."""

import dataclasses

import pytest
import torch

import solvers
from engines.bundle import Schedule, open_bundle
from engines.errors import SettingsError
from engines.graphs import DENOISE
from export import modules, wrappers
from export.build_options import DEMO_FILES
from export.bundle import baked_timesteps
from export.settings import BuildSettings
from export.source import open_source
from export.verification import expectations
from runtime import Upscaler
from tests.tiny import write_tiny_bundle

TIMESTEPS = (499.0, 299.0, 100.0)


@pytest.fixture(scope="module")
def source():
    return open_source(*DEMO_FILES)


def denoise(source, timesteps):
    arch = source.architecture
    controlnet = wrappers.ControlNet(
        modules.load_controlnet(source.checkpoint, arch), arch.controlnet, source.context, timesteps
    )
    unet = wrappers.UNet(modules.load_unet(source.checkpoint, arch), arch.unet, source.context, timesteps)
    return wrappers.Denoise(controlnet, unet).eval()


@torch.no_grad()
def test_each_baked_timestep_gives_what_the_network_gives(source):
    free, baked = denoise(source, ()), denoise(source, TIMESTEPS)
    latent, condition = torch.randn(2, 2, 4, 16, 8)
    for timestep in TIMESTEPS:
        inputs = (latent, condition, torch.tensor([timestep]), torch.ones(1))
        expected = free(*inputs)
        assert (baked(*inputs) - expected).abs().max() <= 1e-5 * expected.std()
    kept, before = (sum(p.numel() for p in module.parameters()) for module in (baked, free))
    assert kept < before
    assert not [name for name, _ in baked.named_parameters() if "time_emb" in name]


@torch.no_grad()
def test_another_timestep_gives_nan_which_the_guard_sees(source):
    baked = denoise(source, TIMESTEPS)
    latent = torch.randn(1, 4, 8, 8)
    assert baked(latent, latent, torch.tensor([399.0]), torch.ones(1)).isnan().all()


@torch.no_grad()
def test_verification_asks_for_baked_timesteps_only(source):
    found = expectations(denoise(source, TIMESTEPS), DENOISE, None, TIMESTEPS)
    assert [case.inputs["timestep"].item() for case in found] == [499.0, 100.0]
    assert all(case.outputs["output"].isfinite().all() for case in found)


def settings(tmp_path, *steps):
    checkpoint, config, context = DEMO_FILES
    return BuildSettings(
        checkpoint=checkpoint, config=config, context=context, out=tmp_path, precision="fp32", bake_steps=steps
    )


def test_timesteps_of_several_plans(tmp_path):
    assert baked_timesteps(Schedule(), settings(tmp_path)) == ()
    assert baked_timesteps(Schedule(), settings(tmp_path, 5, 1)) == (499, 399, 299, 200, 100)
    three = {float(t) for t in solvers.plan(steps=3).timesteps}
    assert set(baked_timesteps(Schedule(), settings(tmp_path, 5, 3))) == three | {499, 399, 299, 200, 100}
    with pytest.raises(SettingsError, match="steps"):
        baked_timesteps(Schedule(), settings(tmp_path, 0))


def test_a_plan_with_other_timesteps_is_refused(tmp_path):
    folder = write_tiny_bundle(tmp_path)
    manifest = open_bundle(folder).manifest
    dataclasses.replace(manifest, baked_timesteps=(499.0, 399.0, 299.0, 200.0, 100.0)).write(folder)
    picture = torch.zeros(16, 16, 3, dtype=torch.uint8).numpy()
    with Upscaler(folder) as upscaler:
        assert upscaler.manifest.baked_timesteps == (499, 399, 299, 200, 100)
        upscaler(picture)
        upscaler(picture, steps=1)
        message = (
            "calls the network at 333, 166, the bundle has 499, 399, 299, 200, 100 baked; take its number of steps"
        )
        with pytest.raises(SettingsError, match=message):
            upscaler(picture, steps=3)
        with pytest.raises(SettingsError, match="or export with --bake-steps 3 or without it"):
            upscaler(picture, plan=solvers.plan(steps=3))
