"""Sizes off the weights' shapes, the config, and both against each other."""

import json

import pytest
from torch.nn import GroupNorm

from export import checkpoint as official
from export.architecture import check_same, read_architecture
from export.checkpoint import IGNORED, open_checkpoint
from export.config import read_config
from export.errors import CheckpointKeysError, ConfigError
from export.modules import all_needed_keys, create_controlnet, create_unet, create_vae
from export.stages import residual_shapes
from tests.paths import LARGER, MINI, needs_larger_golden


@pytest.fixture
def config_text():
    return (MINI / "config.yaml").read_text()


def config_of(text, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return read_config(path)


def mini_shapes():
    return open_checkpoint(MINI / "model.ckpt").shapes


@needs_larger_golden
def test_full_size_from_shapes_alone():
    shapes = {k: tuple(v) for k, v in json.loads((LARGER / "full_checkpoint_shapes.json").read_text()).items()}
    arch = read_architecture(shapes)
    for network in (arch.unet, arch.controlnet):
        assert network.channels == (320, 640, 1280, 1280)
        assert network.attention == (True, True, True, False)
        assert (network.res_blocks, network.context_width, network.depth, network.head_width) == (
            2,
            1024,
            1,
            64,
        )
        assert network.heads == (5, 10, 20, 20)
        assert network.linear_projection
    assert (arch.unet.in_channels, arch.unet.out_channels, arch.controlnet.in_channels) == (4, 4, 8)
    assert len(residual_shapes(arch.controlnet)) == 13
    assert residual_shapes(arch.controlnet)[-1] == (1280, 8)
    assert (arch.vae.channels, arch.vae.res_blocks) == ((128, 256, 512, 512), 2)
    assert (arch.rrdb.features, arch.rrdb.blocks, arch.rrdb.growth) == (64, 23, 32)
    assert arch.text is not None
    assert (arch.text.width, arch.text.layers, arch.text.heads) == (1024, 24, 16)

    needed = all_needed_keys(arch, arch.text)
    assert (len(needed[official.UNET]), len(needed[official.CONTROLNET]), len(needed[official.VAE])) == (
        686,
        324,
        248,
    )
    keys = {key for section in needed.values() for key in section}
    assert keys <= shapes.keys()
    last_block = f"{official.TEXT}transformer.resblocks.23."
    assert all(key in IGNORED or key.startswith(last_block) for key in shapes.keys() - keys)


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(MINI, id="mini"),
        pytest.param(LARGER / "e2e_cond_differ", id="differ", marks=needs_larger_golden),
    ],
)
def test_config_and_weights_agree(folder):
    config = read_config(folder / "config.yaml")
    arch = read_architecture(open_checkpoint(folder / "model.ckpt").shapes, config.architecture.unet.head_width)
    check_same(config.architecture, arch)
    assert config.scale_factor == 0.18215
    assert config.schedule.beta_end == 0.012


def test_head_width_needs_the_config():
    with pytest.raises(ConfigError, match="--config"):
        read_architecture(mini_shapes())


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("model_channels: 32", "model_channels: 64", r"unet channels .*64.*32"),
        ("context_dim: 64", "context_dim: 32", r"context_width 32.*64"),
        ("num_block: 2", "num_block: 23", r"rrdb blocks 23.*2"),
        ("ch: 32", "ch: 128", r"vae channels"),
        ("hint_channels: 4", "hint_channels: 3", r"in_channels 7.*8"),
        ("use_linear_in_transformer: true", "use_linear_in_transformer: false", "linear_projection"),
        ("- 4\n      - 2\n      - 1", "- 4\n      - 2", "attention"),
    ],
)
def test_contradiction_names_both_sides(config_text, tmp_path, old, new, named):
    assert old in config_text
    config = config_of(config_text.replace(old, new), tmp_path)
    with pytest.raises(ConfigError, match=named):
        check_same(config.architecture, read_architecture(mini_shapes(), 16))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: [1, 2", "not plain YAML"),
        ("!!python/object/apply:os.system ['touch executed']", "not plain YAML"),
        ("just words", "params is missing"),
        ("params: {}", "control_stage_config"),
    ],
)
def test_bad_yaml(tmp_path, text, named, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=named):
        config_of(text, tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("model_channels: 32", "model_channels: wide", "model_channels must be a whole number"),
        ("scale_factor: 0.18215", "scale_factor: large", "scale_factor must be a number"),
        ("num_head_channels: 16", "num_head_channels: -1", "num_head_channels"),
        ("scale: 4", "scale: 2", "expected 4"),
    ],
)
def test_mistyped_field(config_text, tmp_path, old, new, named):
    assert old in config_text
    with pytest.raises(ConfigError, match=named):
        config_of(config_text.replace(old, new), tmp_path)


def test_missing_config(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the config"):
        read_config(tmp_path / "none.yaml")


def test_missing_network():
    shapes = {k: v for k, v in mini_shapes().items() if not k.startswith(official.PREPROCESS)}
    with pytest.raises(CheckpointKeysError, match=r"preprocess_model\.conv_first\.weight"):
        read_architecture(shapes, 16)


def test_groups_of_norms_come_from_the_config(config_text, tmp_path):
    config = config_of(config_text.replace("params:\n", "params:\n  norm_groups: 8\n", 1), tmp_path)
    unet = config.architecture.unet
    assert (unet.norm_groups, config.architecture.vae.norm_groups) == (8, 8)
    arch = read_architecture(mini_shapes(), unet.head_width, unet.norm_groups)
    check_same(config.architecture, arch)
    norms = [m for make in (create_unet, create_controlnet) for m in make(unet).modules() if isinstance(m, GroupNorm)]
    norms += [m for m in create_vae(arch.vae).modules() if isinstance(m, GroupNorm)]
    assert {norm.num_groups for norm in norms} == {8}
    assert config_of(config_text, tmp_path).architecture.unet.norm_groups == 32


def test_groups_that_do_not_divide(config_text, tmp_path):
    with pytest.raises(ConfigError, match=r"a level of 32 channels does not divide into 5 groups.*norm_groups"):
        read_architecture(mini_shapes(), 16, 5)
    with pytest.raises(ConfigError, match=r"norm_groups is 0, expected at least 1"):
        config_of(config_text.replace("params:\n", "params:\n  norm_groups: 0\n", 1), tmp_path)
