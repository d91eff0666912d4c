"""The networks as torch modules with a checkpoint's weights. In: an `Architecture` and weights. Out: fp32 modules.

UNet, ControlNet and VAE are diffusers' building blocks, created on the meta device so that nothing is initialised in
vain. Epsilons: ResBlocks of the UNet and the ControlNet 1e-5; spatial transformers and all of the VAE 1e-6.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from export import checkpoint as official
from export.architecture import Architecture, TextArchitecture, UNetArchitecture, VaeArchitecture
from export.checkpoint import Checkpoint
from export.conversion import Blocks, load, needed_keys, unet_blocks, vae_blocks
from export.quiet import quietly
from export.rrdbnet import RRDBNet
from export.text_tower import TextTower

_RES_BLOCK_EPSILON = 1e-5


def _settings(arch: UNetArchitecture) -> dict[str, Any]:
    down = tuple("CrossAttnDownBlock2D" if used else "DownBlock2D" for used in arch.attention)
    return {
        "in_channels": arch.in_channels,
        "down_block_types": down,
        "block_out_channels": arch.channels,
        "layers_per_block": arch.res_blocks,
        "cross_attention_dim": arch.context_width,
        "transformer_layers_per_block": arch.depth,
        "attention_head_dim": arch.heads,  # diffusers' name for the number of heads
        "use_linear_projection": arch.linear_projection,
        "norm_eps": _RES_BLOCK_EPSILON,
        "norm_num_groups": arch.norm_groups,
        "act_fn": "silu",
    }


def _untyped(library: Any) -> Any:
    """diffusers has no annotations."""
    return library


def create_unet(arch: UNetArchitecture) -> nn.Module:
    """An empty UNet on the meta device."""
    with quietly(), torch.device("meta"):
        import diffusers

        up = tuple("CrossAttnUpBlock2D" if used else "UpBlock2D" for used in reversed(arch.attention))
        module: nn.Module = _untyped(diffusers).UNet2DConditionModel(
            out_channels=arch.out_channels, up_block_types=up, **_settings(arch)
        )
    return module


def create_controlnet(arch: UNetArchitecture) -> nn.Module:
    """An empty ControlNet on the meta device, without diffusers' embedding of the hint: ours is a latent."""
    with quietly(), torch.device("meta"):
        import diffusers

        module: nn.Module = _untyped(diffusers).ControlNetModel(**_settings(arch))
    del module.controlnet_cond_embedding
    return module


def create_vae(arch: VaeArchitecture) -> nn.Module:
    """An empty autoencoder on the meta device."""
    levels = len(arch.channels)
    with quietly(), torch.device("meta"):
        import diffusers

        module: nn.Module = _untyped(diffusers).AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=arch.channels,
            layers_per_block=arch.res_blocks,
            latent_channels=arch.z_channels,
            norm_num_groups=arch.norm_groups,
        )
    return module


def create_vae_encoder(arch: VaeArchitecture) -> nn.Module:
    """The encoder half with `quant_conv`."""
    vae = create_vae(arch)
    del vae.decoder, vae.post_quant_conv
    return vae


def create_vae_decoder(arch: VaeArchitecture) -> nn.Module:
    """The decoder half with `post_quant_conv`."""
    vae = create_vae(arch)
    del vae.encoder, vae.quant_conv
    return vae


def _empty(arch: Architecture, text: TextArchitecture | None) -> dict[str, tuple[nn.Module, Blocks]]:
    with torch.device("meta"):
        parts: dict[str, tuple[nn.Module, Blocks]] = {official.PREPROCESS: (RRDBNet(arch.rrdb), {})}
        if text is not None:
            parts[official.TEXT] = (TextTower(text), {})
    vae = vae_blocks(arch.vae)
    return parts | {
        official.UNET: (create_unet(arch.unet), unet_blocks(arch.unet)),
        official.CONTROLNET: (create_controlnet(arch.controlnet), unet_blocks(arch.controlnet)),
        official.VAE: (create_vae(arch.vae), vae),
        official.CONDITION_ENCODER: (create_vae_encoder(arch.vae), vae),
    }


def all_needed_keys(arch: Architecture, text: TextArchitecture | None) -> dict[str, dict[str, tuple[int, ...]]]:
    """Every official key that the networks take, with our shape, by section; the text tower's where it is given."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for prefix, (module, blocks) in _empty(arch, text).items():
        state = module.state_dict()
        names = needed_keys(module, blocks)
        found[prefix] = {prefix + key: tuple(state[name].shape) for key, name in names.items()}
    return found


def load_unet(checkpoint: Checkpoint, arch: Architecture) -> nn.Module:
    """The UNet with its weights."""
    module = create_unet(arch.unet)
    load(module, checkpoint.section(official.UNET), unet_blocks(arch.unet), official.UNET)
    return module


def load_controlnet(checkpoint: Checkpoint, arch: Architecture) -> nn.Module:
    """The ControlNet with its weights."""
    module = create_controlnet(arch.controlnet)
    blocks = unet_blocks(arch.controlnet)
    load(module, checkpoint.section(official.CONTROLNET), blocks, official.CONTROLNET)
    return module


def load_vae_encoder(checkpoint: Checkpoint, arch: Architecture, section: str = official.VAE) -> nn.Module:
    """An encoder with its weights: the autoencoder's, or the condition's."""
    module = create_vae_encoder(arch.vae)
    halves = ("encoder.", "quant_conv.")
    weights = {k: v for k, v in checkpoint.section(section).items() if k.startswith(halves)}
    load(module, weights, vae_blocks(arch.vae), section)
    return module


def load_vae_decoder(checkpoint: Checkpoint, arch: Architecture) -> nn.Module:
    """The decoder with its weights."""
    module = create_vae_decoder(arch.vae)
    halves = ("decoder.", "post_quant_conv.")
    weights = {k: v for k, v in checkpoint.section(official.VAE).items() if k.startswith(halves)}
    load(module, weights, vae_blocks(arch.vae), official.VAE)
    return module


def load_rrdbnet(checkpoint: Checkpoint, arch: Architecture) -> RRDBNet:
    """The enlarger with its weights."""
    with torch.device("meta"):
        module = RRDBNet(arch.rrdb)
    load(module, checkpoint.section(official.PREPROCESS), {}, official.PREPROCESS)
    return module


def load_text_tower(checkpoint: Checkpoint, arch: TextArchitecture) -> TextTower:
    """The text tower with its weights, the last block left out."""
    with torch.device("meta"):
        module = TextTower(arch)
    names = module.state_dict().keys()
    weights = {k: v for k, v in checkpoint.section(official.TEXT).items() if k in names}
    load(module, weights, {}, official.TEXT)
    return module


def encoders_equal(checkpoint: Checkpoint) -> bool:
    """Whether the condition's encoder has exactly the autoencoder's weights."""
    own = [key for key in checkpoint.keys if key.startswith(official.CONDITION_ENCODER)]
    return all(
        torch.equal(
            checkpoint.tensor(key),
            checkpoint.tensor(official.VAE + key.removeprefix(official.CONDITION_ENCODER)),
        )
        for key in own
    )
