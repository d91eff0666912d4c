"""Files that are not what they should be, wrappers, and the accounting of keys."""

import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.checkpoint import open_checkpoint
from export.errors import (
    CheckpointCorruptError,
    CheckpointKeysError,
    CheckpointNotFoundError,
    ConfigError,
    ContextError,
    UnsafeCheckpointError,
)
from export.source import open_source
from tests.paths import MINI

CONFIG, CONTEXT = MINI / "config.yaml", MINI / "context.safetensors"


@pytest.fixture(scope="module")
def weights():
    return torch.load(MINI / "model.ckpt", weights_only=True)


class Payload:
    """Runs a command when it is unpickled by a careless reader."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def open_with(weights, tmp_path, **options):
    path = tmp_path / "model.ckpt"
    torch.save(weights, path)
    return open_source(path, CONFIG, CONTEXT, **options)


def assert_one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert ";" in text  # the fix stands behind it


def test_missing(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match="No such file") as caught:
        open_checkpoint(tmp_path / "none.ckpt")
    assert_one_line(caught)


@pytest.mark.parametrize("keep", [0, 1, 7, 5000, 3_000_000, -1000, -1])
def test_truncated(tmp_path, keep):
    path = tmp_path / "model.ckpt"
    path.write_bytes((MINI / "model.ckpt").read_bytes()[:keep])
    with pytest.raises(CheckpointCorruptError) as caught:
        open_checkpoint(path)
    assert_one_line(caught)


@pytest.mark.parametrize("keep", [0, 4, 20, 100_000, -1])
def test_truncated_safetensors(tmp_path, keep, weights):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "model.safetensors"
    save_file(weights, whole)
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(CheckpointCorruptError) as caught:
        open_checkpoint(path)
    assert_one_line(caught)


def test_truncated_legacy(tmp_path, weights):
    whole, path = tmp_path / "whole.ckpt", tmp_path / "model.ckpt"
    torch.save(weights, whole, _use_new_zipfile_serialization=False)
    path.write_bytes(whole.read_bytes()[:200_000])
    with pytest.raises(CheckpointCorruptError) as caught:
        open_checkpoint(path)
    assert_one_line(caught)


def test_not_a_checkpoint(tmp_path):
    path = tmp_path / "photo.ckpt"
    path.write_bytes(b"\xff\xd8\xff\xe0 a picture" * 100)
    with pytest.raises(CheckpointCorruptError, match="neither"):
        open_checkpoint(path)


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}, {"state_dict": {"a": "b"}}])
def test_no_tensors(tmp_path, content):
    path = tmp_path / "model.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointCorruptError, match="no tensors"):
        open_checkpoint(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_payload_does_not_run(tmp_path, weights, form):
    executed, path = tmp_path / "executed", tmp_path / "model.ckpt"
    content = {"state_dict": weights, "callback": Payload(f"touch {executed}")}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UnsafeCheckpointError, match="safetensors") as caught:
        open_checkpoint(path)
    assert_one_line(caught)
    assert not executed.exists()


@pytest.mark.parametrize("form", ["zip", "legacy", "state_dict", "module", "safetensors", "half"])
def test_forms(tmp_path, weights, form):
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "model.ckpt")
    key = "model.diffusion_model.input_blocks.0.0.weight"
    stored = weights
    if form == "state_dict":
        stored = {"epoch": 3, "global_step": 1000, "state_dict": weights}
    elif form == "module":
        stored = {f"module.{k}": v for k, v in weights.items()}
    elif form == "half":
        stored = {k: v.half() for k, v in weights.items() if k not in ("betas", "lambdas")}
    if form == "safetensors":
        save_file(stored, path)
    else:
        torch.save(stored, path, _use_new_zipfile_serialization=form != "legacy")
    source = open_source(path, CONFIG, CONTEXT)
    assert source.schedule.t1 == 500
    assert not source.separate_condition
    value = source.checkpoint.tensor(key)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, weights[key], atol=0 if form != "half" else 1e-3, rtol=0)


def test_key_twice(tmp_path, weights):
    key = "model.diffusion_model.input_blocks.0.0.weight"
    with pytest.raises(CheckpointKeysError, match="twice"):
        open_with({**weights, f"module.{key}": weights[key]}, tmp_path)


def test_missing_keys(tmp_path, weights):
    fewer = {k: v for k, v in weights.items() if ".middle_block.1.norm" not in k}
    with pytest.raises(CheckpointKeysError, match=r"lacks 4 keys \(control_model\.middle_block.*\.\.\.\)") as caught:
        open_with(fewer, tmp_path)
    assert_one_line(caught)


@pytest.mark.parametrize(
    "key", ["adapter.weight", "control_model.input_hint_block.0.weight", "cond_encoder.extra.bias"]
)
def test_left_over_keys(tmp_path, weights, key):
    with pytest.raises(CheckpointKeysError, match=f"1 keys that no part of DoSSR takes \\({key}\\)") as caught:
        open_with({**weights, key: torch.zeros(1)}, tmp_path)
    assert_one_line(caught)


def test_ignored_keys(tmp_path, weights):
    extra = {
        "model_ema.decay": torch.zeros(()),
        "first_stage_model.loss.logvar": torch.zeros(()),
        "cond_stage_model.model.logit_scale": torch.zeros(()),
        "scale_factor": torch.tensor(0.18215),
    }
    open_with({**weights, **extra}, tmp_path)


def test_entries_that_are_no_tensors(tmp_path, weights):
    with pytest.raises(CheckpointKeysError, match=r"not tensors \(model\.diffusion_model\.extra\); remove them"):
        open_with({**weights, "model.diffusion_model.extra": "oops"}, tmp_path)


def test_shape_that_contradicts(tmp_path, weights):
    key = "model.diffusion_model.out.0.weight"
    with pytest.raises(ConfigError, match=r"out\.0\.weight has shape \[16\].*\[32\]"):
        open_with({**weights, key: torch.zeros(16)}, tmp_path)


def test_t1(tmp_path, weights):
    with pytest.raises(ConfigError, match="--t1 500"):
        open_with(weights, tmp_path, t1=333)
    with pytest.raises(ConfigError, match="2 to 1000"):
        open_with(weights, tmp_path, t1=1001)
    bare = {k: v for k, v in weights.items() if "." in k}
    assert open_with(bare, tmp_path, t1=333).schedule.t1 == 333
    assert open_with(bare, tmp_path).schedule.t1 == 500
    with pytest.raises(ConfigError, match="shifting sequence"):
        open_with({**weights, "lambdas": weights["lambdas"] * 0.9}, tmp_path)
    with pytest.raises(ConfigError, match="noise schedule"):
        open_with({**weights, "betas": weights["betas"] * 2}, tmp_path)


def test_scale_factor(tmp_path, weights):
    with pytest.raises(ConfigError, match="scale_factor"):
        open_with({**weights, "scale_factor": torch.tensor(0.13)}, tmp_path)


def test_parameterization(tmp_path):
    config = tmp_path / "v.yaml"
    config.write_text(CONFIG.read_text().replace("  scale_factor:", "  parameterization: v\n  scale_factor:"))
    with pytest.raises(ConfigError, match="--prediction v"):
        open_source(MINI / "model.ckpt", config, CONTEXT)
    open_source(MINI / "model.ckpt", config, CONTEXT, prediction="v")


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"negative": torch.zeros(77, 64)}, "positive"),
        ({"positive": torch.zeros(77, 32)}, r"\[77, 32\], expected \[77, 64\]"),
        ({"positive": torch.zeros(1, 77, 64)}, "expected"),
        ({"positive": torch.full((77, 64), torch.nan)}, "NaN"),
    ],
)
def test_bad_context(tmp_path, tensors, named):
    path = tmp_path / "context.safetensors"
    save_file(tensors, path)
    with pytest.raises(ContextError, match=named) as caught:
        open_source(MINI / "model.ckpt", CONFIG, path)
    assert_one_line(caught)


def test_unreadable_context(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no header")
    for name in ("broken.safetensors", "none.safetensors"):
        with pytest.raises(ContextError, match="cannot read"):
            open_source(MINI / "model.ckpt", CONFIG, tmp_path / name)


def test_no_context_and_no_text_tower():
    with pytest.raises(ContextError, match="--context") as caught:
        open_source(MINI / "model.ckpt", CONFIG, None)
    assert_one_line(caught)


def test_context_from_the_text_tower(tmp_path, weights):
    torch.manual_seed(0)
    width, layers = 64, 3
    stem = "cond_stage_model.model."
    tower = {
        "positional_embedding": (77, width),
        "token_embedding.weight": (49408, width),
        "text_projection": (width, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
    }
    for i in range(layers):
        block = f"transformer.resblocks.{i}."
        tower |= {f"{block}{ln}.{p}": (width,) for ln in ("ln_1", "ln_2") for p in ("weight", "bias")}
        tower |= {
            f"{block}attn.in_proj_weight": (3 * width, width),
            f"{block}attn.in_proj_bias": (3 * width,),
        }
        tower |= {f"{block}attn.out_proj.weight": (width, width), f"{block}attn.out_proj.bias": (width,)}
        tower |= {f"{block}mlp.c_fc.weight": (4 * width, width), f"{block}mlp.c_fc.bias": (4 * width,)}
        tower |= {f"{block}mlp.c_proj.weight": (width, 4 * width), f"{block}mlp.c_proj.bias": (width,)}
    whole = {**weights, **{stem + k: torch.randn(shape) * 0.1 for k, shape in tower.items()}}
    path = tmp_path / "model.ckpt"
    torch.save(whole, path)
    source = open_source(path, CONFIG, None)
    assert source.context.shape == (1, 77, width)
    assert torch.isfinite(source.context).all()
    given = open_source(path, CONFIG, CONTEXT)
    torch.testing.assert_close(given.context[0], load_file(CONTEXT)["positive"])
