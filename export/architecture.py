"""The networks' sizes. In: the shapes of a checkpoint's weights, and optionally the official YAML. Out: an
`Architecture`.

All but the width of an attention head can be read off the weights; the full-size model's is 64. A config is compared
with the weights field by field, so it cannot silently describe another model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from export import checkpoint as official
from export.errors import CheckpointKeysError, ConfigError

Shapes = Mapping[str, tuple[int, ...]]

DEFAULT_HEAD_WIDTH = 64
"""Stable Diffusion 2.1's `num_head_channels`."""
DEFAULT_NORM_GROUPS = 32
"""Groups of every group norm, fixed in the official code. Weights do not show them."""


@dataclass(frozen=True, kw_only=True)
class UNetArchitecture:
    """The UNet, or the ControlNet (its encoder; out_channels 0)."""

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    """Of each level, full resolution first."""
    res_blocks: int
    attention: tuple[bool, ...]
    """Whether each level has transformers; the middle always has one."""
    context_width: int
    depth: int
    """Transformer blocks of one spatial transformer."""
    linear_projection: bool
    head_width: int
    norm_groups: int = DEFAULT_NORM_GROUPS

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each level."""
        return tuple(width // self.head_width for width in self.channels)


@dataclass(frozen=True, kw_only=True)
class VaeArchitecture:
    """Encoder and decoder of the KL autoencoder."""

    channels: tuple[int, ...]
    res_blocks: int
    z_channels: int
    embed_channels: int
    norm_groups: int = DEFAULT_NORM_GROUPS


@dataclass(frozen=True, kw_only=True)
class RrdbArchitecture:
    """The RRDBNet that enlarges four times (arXiv:1809.00219)."""

    features: int
    blocks: int
    growth: int


@dataclass(frozen=True, kw_only=True)
class TextArchitecture:
    """OpenCLIP's text transformer; a head is 64 wide in every published size."""

    width: int
    layers: int
    vocabulary: int
    positions: int

    @property
    def heads(self) -> int:
        """Attention heads of each layer."""
        return max(1, self.width // 64)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Every network of a checkpoint."""

    unet: UNetArchitecture
    controlnet: UNetArchitecture
    vae: VaeArchitecture
    rrdb: RrdbArchitecture
    text: TextArchitecture | None


def read_architecture(
    shapes: Shapes,
    head_width: int = DEFAULT_HEAD_WIDTH,
    norm_groups: int = DEFAULT_NORM_GROUPS,
    *,
    with_text: bool = True,
) -> Architecture:
    """The architecture from the shapes of the weights under their official keys; `with_text` False passes over a text
    tower.

    Raises:
        CheckpointKeysError: keys are missing that each DoSSR checkpoint has.
        ConfigError: the head width does not divide the channels, or a network's form is not supported.
    """
    text = None
    if with_text and any(key.startswith(official.TEXT) for key in shapes):
        vocabulary, width = _shape(shapes, f"{official.TEXT}token_embedding.weight")
        text = TextArchitecture(
            width=width,
            layers=_length(shapes, f"{official.TEXT}transformer.resblocks.{{}}.ln_1.weight"),
            vocabulary=vocabulary,
            positions=_shape(shapes, f"{official.TEXT}positional_embedding")[0],
        )
    return Architecture(
        unet=_read_unet(shapes, official.UNET, head_width, norm_groups),
        controlnet=_read_unet(shapes, official.CONTROLNET, head_width, norm_groups),
        vae=_read_vae(shapes, norm_groups),
        rrdb=_read_rrdb(shapes),
        text=text,
    )


def check_same(config: Architecture, weights: Architecture) -> None:
    """Compares the networks of a config with those of the weights.

    Raises:
        ConfigError: the first field that differs, with both sides.
    """
    for name in ("unet", "controlnet", "vae", "rrdb"):
        ours, theirs = getattr(config, name), getattr(weights, name)
        for field in dataclasses.fields(ours):
            said, found = getattr(ours, field.name), getattr(theirs, field.name)
            if said != found:
                raise ConfigError(
                    f"the config gives the {name} {field.name} {said}, the weights have {found}; "
                    "give the --config that belongs to this checkpoint, or none"
                )


def _shape(shapes: Shapes, key: str) -> tuple[int, ...]:
    if key not in shapes:
        raise CheckpointKeysError(f"the checkpoint has no key {key}; give a complete DoSSR checkpoint")
    return shapes[key]


def _length(shapes: Shapes, pattern: str) -> int:
    """How many consecutive numbers from 0 on make the pattern a key."""
    return next(n for n in count() if pattern.format(n) not in shapes)


def _read_unet(shapes: Shapes, prefix: str, head_width: int, norm_groups: int) -> UNetArchitecture:
    model_channels, in_channels = _shape(shapes, f"{prefix}input_blocks.0.0.weight")[:2]
    channels, blocks, attention = [model_channels], [0], [False]
    for n in count(1):
        stem = f"{prefix}input_blocks.{n}"
        if f"{stem}.0.op.weight" in shapes:
            channels.append(0)
            blocks.append(0)
            attention.append(False)
        elif (residual := f"{stem}.0.out_layers.3.weight") in shapes:
            channels[-1] = shapes[residual][0]
            blocks[-1] += 1
            attention[-1] = f"{stem}.1.norm.weight" in shapes
        else:
            break
    if len(set(blocks)) != 1 or not blocks[0]:
        raise CheckpointKeysError(
            f"the levels of {prefix}input_blocks have {blocks} residual blocks, expected equally many; "
            "give a complete DoSSR checkpoint"
        )
    middle = f"{prefix}middle_block.1."
    projection = _shape(shapes, f"{middle}proj_in.weight")
    transformers = [width for width, used in zip(channels, attention, strict=True) if used] + channels[-1:]
    if wrong := next((width for width in transformers if width % head_width), 0):
        raise ConfigError(
            f"a level of {wrong} channels does not divide into attention heads {head_width} wide, and weights do not "
            "show the width; give the checkpoint's --config (num_head_channels)"
        )
    _check_groups(channels, norm_groups)
    out = f"{prefix}out.2.weight"
    return UNetArchitecture(
        in_channels=in_channels,
        out_channels=shapes[out][0] if out in shapes else 0,
        channels=tuple(channels),
        res_blocks=blocks[0],
        attention=tuple(attention),
        context_width=_shape(shapes, f"{middle}transformer_blocks.0.attn2.to_k.weight")[1],
        depth=_length(shapes, f"{middle}transformer_blocks.{{}}.norm1.weight"),
        linear_projection=len(projection) == 2,
        head_width=head_width,
        norm_groups=norm_groups,
    )


def _check_groups(channels: Sequence[int], norm_groups: int) -> None:
    if wrong := next((width for width in channels if width % norm_groups), 0):
        raise ConfigError(
            f"a level of {wrong} channels does not divide into {norm_groups} groups for group norm, and weights do not "
            "show their number; give the checkpoint's --config (norm_groups)"
        )


def _read_vae(shapes: Shapes, norm_groups: int) -> VaeArchitecture:
    encoder = f"{official.VAE}encoder."
    _shape(shapes, f"{encoder}conv_in.weight")
    levels = _length(shapes, f"{encoder}down.{{}}.block.0.conv1.weight")
    channels = tuple(shapes[f"{encoder}down.{i}.block.0.conv1.weight"][0] for i in range(levels))
    _check_groups(channels, norm_groups)
    return VaeArchitecture(
        channels=channels,
        res_blocks=_length(shapes, f"{encoder}down.0.block.{{}}.conv1.weight"),
        z_channels=_shape(shapes, f"{official.VAE}decoder.conv_in.weight")[1],
        embed_channels=_shape(shapes, f"{official.VAE}quant_conv.weight")[0] // 2,
        norm_groups=norm_groups,
    )


def _read_rrdb(shapes: Shapes) -> RrdbArchitecture:
    features, in_channels = _shape(shapes, f"{official.PREPROCESS}conv_first.weight")[:2]
    if in_channels != 3:
        raise ConfigError(
            f"the preprocess model takes {in_channels} channels, expected 3 (a network that enlarges by 4); "
            "give a checkpoint with an x4 RRDBNet"
        )
    return RrdbArchitecture(
        features=features,
        blocks=_length(shapes, f"{official.PREPROCESS}body.{{}}.rdb1.conv1.weight"),
        growth=_shape(shapes, f"{official.PREPROCESS}body.0.rdb1.conv1.weight")[0],
    )
