"""Official keys for diffusers' networks. In: a network's own parameter name. Out: the official key of that weight.

The table runs from our side to the file's, so that walking a network's parameters lists every key that it needs, and
comparing that list with the file finds missing and left-over keys alike. Both layouts are those of Stable Diffusion:
`input_blocks.N` counts convolution, residual blocks and downsamplings in order; diffusers nests them by level.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from export.architecture import UNetArchitecture, VaeArchitecture
from export.checkpoint import some
from export.errors import CheckpointKeysError, ConfigError

_UNET_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_RESIDUAL = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_SAME: dict[str, str] = {}

Blocks = dict[str, tuple[str, Mapping[str, str]]]
"""Our block to (official block, renamed parts inside); parts not listed keep their names."""


def unet_blocks(arch: UNetArchitecture) -> Blocks:
    """The blocks of a UNet; a ControlNet has the first half, and its own outputs."""
    blocks: Blocks = {
        "time_embedding.linear_1": ("time_embed.0", _SAME),
        "time_embedding.linear_2": ("time_embed.2", _SAME),
        "conv_in": ("input_blocks.0.0", _SAME),
        "mid_block.resnets.0": ("middle_block.0", _UNET_RESIDUAL),
        "mid_block.attentions.0": ("middle_block.1", _SAME),
        "mid_block.resnets.1": ("middle_block.2", _UNET_RESIDUAL),
        "conv_norm_out": ("out.0", _SAME),
        "conv_out": ("out.2", _SAME),
        "controlnet_mid_block": ("middle_block_out.0", _SAME),
    }
    levels = len(arch.channels)
    number = 1
    for level in range(levels):
        for j in range(arch.res_blocks):
            blocks[f"down_blocks.{level}.resnets.{j}"] = (f"input_blocks.{number}.0", _UNET_RESIDUAL)
            blocks[f"down_blocks.{level}.attentions.{j}"] = (f"input_blocks.{number}.1", _SAME)
            number += 1
        if level < levels - 1:
            blocks[f"down_blocks.{level}.downsamplers.0.conv"] = (f"input_blocks.{number}.0.op", _SAME)
            number += 1
    blocks |= {f"controlnet_down_blocks.{n}": (f"zero_convs.{n}.0", _SAME) for n in range(number)}
    number = 0
    for up, level in enumerate(reversed(range(levels))):
        for j in range(arch.res_blocks + 1):
            blocks[f"up_blocks.{up}.resnets.{j}"] = (f"output_blocks.{number}.0", _UNET_RESIDUAL)
            blocks[f"up_blocks.{up}.attentions.{j}"] = (f"output_blocks.{number}.1", _SAME)
            number += 1
        upsampler = 2 if arch.attention[level] else 1
        blocks[f"up_blocks.{up}.upsamplers.0.conv"] = (f"output_blocks.{number - 1}.{upsampler}.conv", _SAME)
    return blocks


def vae_blocks(arch: VaeArchitecture) -> Blocks:
    """The blocks of the autoencoder."""
    blocks: Blocks = {name: (name, _SAME) for name in ("quant_conv", "post_quant_conv")}
    last = len(arch.channels) - 1
    for half in ("encoder", "decoder"):
        blocks |= {
            f"{half}.conv_in": (f"{half}.conv_in", _SAME),
            f"{half}.conv_norm_out": (f"{half}.norm_out", _SAME),
            f"{half}.conv_out": (f"{half}.conv_out", _SAME),
            f"{half}.mid_block.resnets.0": (f"{half}.mid.block_1", _VAE_RESIDUAL),
            f"{half}.mid_block.attentions.0": (f"{half}.mid.attn_1", _VAE_ATTENTION),
            f"{half}.mid_block.resnets.1": (f"{half}.mid.block_2", _VAE_RESIDUAL),
        }
    for i in range(last + 1):
        for j in range(arch.res_blocks + 1):
            blocks[f"encoder.down_blocks.{i}.resnets.{j}"] = (f"encoder.down.{i}.block.{j}", _VAE_RESIDUAL)
            blocks[f"decoder.up_blocks.{i}.resnets.{j}"] = (f"decoder.up.{last - i}.block.{j}", _VAE_RESIDUAL)
        blocks[f"encoder.down_blocks.{i}.downsamplers.0.conv"] = (f"encoder.down.{i}.downsample.conv", _SAME)
        blocks[f"decoder.up_blocks.{i}.upsamplers.0.conv"] = (f"decoder.up.{last - i}.upsample.conv", _SAME)
    return blocks


def official_key(name: str, blocks: Blocks) -> str:
    """The official key of one of our parameters: the longest known block, then the renamed part inside."""
    block = name
    while block not in blocks:
        block, dot, _ = block.rpartition(".")
        if not dot:
            return name
    target, renamed = blocks[block]
    inside = name[len(block) + 1 :]
    part, _, leaf = inside.rpartition(".")
    middle = renamed.get(part, part)
    return ".".join(piece for piece in (target, middle, leaf) if piece)


def needed_keys(module: nn.Module, blocks: Blocks) -> dict[str, str]:
    """Official key to our name, for every weight of the network."""
    return {official_key(name, blocks): name for name in module.state_dict()}


def check_shape(key: str, stored: tuple[int, ...], ours: tuple[int, ...]) -> None:
    """Whether a stored weight is ours; the VAE's attention is stored as 1x1 convolutions, [C,C,1,1] for [C,C].

    Raises:
        ConfigError: it is of another shape.
    """
    if stored not in (ours, (*ours, 1, 1)):
        raise ConfigError(
            f"{key} has shape {list(stored)}, the architecture says {list(ours)}; give the --config that belongs to "
            "this checkpoint"
        )


def load(module: nn.Module, weights: Mapping[str, Tensor], blocks: Blocks, section: str) -> None:
    """Puts a section's weights into the network without copying them, strict both ways; then sets it to inference.

    Args:
        module: the network, possibly on the meta device.
        weights: official keys without the section's prefix.
        blocks: from `unet_blocks` or `vae_blocks`; empty where the names are the same.
        section: the prefix, for errors.

    Raises:
        CheckpointKeysError: keys are missing or left over.
        ConfigError: a weight's shape is not what the architecture says.
    """
    needed = needed_keys(module, blocks)
    if missing := needed.keys() - weights.keys():
        raise CheckpointKeysError(
            f"the checkpoint lacks {len(missing)} keys ({some(section + key for key in missing)}); "
            "give a complete DoSSR checkpoint and the --config that belongs to it"
        )
    if left := weights.keys() - needed.keys():
        raise CheckpointKeysError(
            f"the checkpoint holds {len(left)} keys that no part of DoSSR takes "
            f"({some(section + key for key in left)}); give the --config that belongs to it"
        )
    state = module.state_dict()
    converted = {}
    for key, name in needed.items():
        shape = tuple(state[name].shape)
        check_shape(section + key, tuple(weights[key].shape), shape)
        converted[name] = weights[key].reshape(shape)
    module.load_state_dict(converted, strict=True, assign=True)
    module.eval().requires_grad_(False)
