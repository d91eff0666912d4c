"""The trained networks as a checkpoint in the official layout. In: modules. Out: weights, config and context files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from engines.files import atomic_path
from export import checkpoint as official
from export.architecture import Architecture, UNetArchitecture
from export.context import KEY
from export.conversion import Blocks, needed_keys, unet_blocks, vae_blocks
from training.networks import Denoiser

WEIGHTS, CONFIG, CONTEXT = "model.ckpt", "config.yaml", "context.safetensors"
_ENCODER = (f"{official.VAE}encoder.", f"{official.VAE}quant_conv.")


def save_checkpoint(
    folder: Path,
    arch: Architecture,
    *,
    rrdbnet: nn.Module,
    vae: nn.Module,
    denoiser: Denoiser,
    scale_factor: float,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes `model.ckpt`, `config.yaml` and `context.safetensors`, each atomically.

    The condition's encoder is the autoencoder's: both names share one storage, which torch's format writes once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections: dict[str, tuple[nn.Module, Blocks]] = {
        official.PREPROCESS: (rrdbnet, {}),
        official.VAE: (vae, vae_blocks(arch.vae)),
        official.UNET: (denoiser.unet, unet_blocks(arch.unet)),
        official.CONTROLNET: (denoiser.controlnet, unet_blocks(arch.controlnet)),
    }
    weights: dict[str, Tensor] = {}
    for prefix, (module, blocks) in sections.items():
        state = module.state_dict()
        for key, name in needed_keys(module, blocks).items():
            weights[prefix + key] = state[name].detach().cpu().to(dtype, copy=True).contiguous()
    for key in [key for key in weights if key.startswith(_ENCODER)]:
        weights[official.CONDITION_ENCODER + key.removeprefix(official.VAE)] = weights[key]
    with atomic_path(folder / WEIGHTS) as path:
        torch.save({"state_dict": weights}, path)
    context = {KEY: denoiser.context.detach().float().cpu().contiguous()}
    with atomic_path(folder / CONTEXT) as path:
        safetensors.torch.save_file(context, path)
    with atomic_path(folder / CONFIG) as path:
        path.write_text(yaml.safe_dump({"model": config(arch, scale_factor)}, sort_keys=False), encoding="utf-8")


def config(arch: Architecture, scale_factor: float) -> dict[str, Any]:
    """The official config of an architecture: what `export.config.read_config` reads."""
    first = arch.vae.channels[0]
    return {
        "params": {
            "linear_start": 0.00085,
            "linear_end": 0.012,
            "timesteps": 1000,
            "norm_groups": arch.vae.norm_groups,
            "scale_factor": scale_factor,
            "unet_config": {"params": _unet(arch.unet) | {"out_channels": arch.unet.out_channels}},
            "control_stage_config": {
                "params": _unet(arch.controlnet)
                | {
                    "in_channels": arch.unet.in_channels,
                    "hint_channels": arch.controlnet.in_channels - arch.unet.in_channels,
                }
            },
            "first_stage_config": {
                "params": {
                    "embed_dim": arch.vae.embed_channels,
                    "ddconfig": {
                        "z_channels": arch.vae.z_channels,
                        "ch": first,
                        "ch_mult": [width // first for width in arch.vae.channels],
                        "num_res_blocks": arch.vae.res_blocks,
                    },
                }
            },
            "preprocess_config": {
                "params": {
                    "num_feat": arch.rrdb.features,
                    "num_block": arch.rrdb.blocks,
                    "num_grow_ch": arch.rrdb.growth,
                    "scale": 4,
                }
            },
        }
    }


def _unet(arch: UNetArchitecture) -> dict[str, Any]:
    unit = arch.channels[0]
    return {
        "in_channels": arch.in_channels,
        "model_channels": unit,
        "channel_mult": [width // unit for width in arch.channels],
        "num_res_blocks": arch.res_blocks,
        "attention_resolutions": [2**level for level, used in enumerate(arch.attention) if used],
        "num_head_channels": arch.head_width,
        "use_linear_in_transformer": arch.linear_projection,
        "transformer_depth": arch.depth,
        "context_dim": arch.context_width,
    }
