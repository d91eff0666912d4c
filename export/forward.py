"""How data walks through the networks. In: diffusers' blocks and tensors. Out: tensors.

diffusers' own forward methods branch on sizes (which pins dynamic shapes when traced) and know nothing of a ControlNet
whose hint is a latent; the blocks are theirs, the walk is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Attention among the pixels of one feature map, in place of diffusers' module of the same weights."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads: int = attention.heads
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out = attention.to_out[0]

    def forward(self, hidden_states: Tensor, **_unused: object) -> Tensor:
        """[B,N,C] to the same."""
        q, k, v = (split_heads(to(hidden_states), self.heads) for to in (self.to_q, self.to_k, self.to_v))
        result: Tensor = self.to_out(merge_heads(functional.scaled_dot_product_attention(q, k, v)))
        return result


class BakedCrossAttention(nn.Module):
    """Attention to a fixed prompt: keys and values are constants [1,heads,77,d], for any batch."""

    keys: Tensor
    values: Tensor

    def __init__(self, attention: Any, context: Tensor) -> None:
        super().__init__()
        self.heads: int = attention.heads
        self.to_q, self.to_out = attention.to_q, attention.to_out[0]
        self.register_buffer("keys", split_heads(attention.to_k(context), self.heads).contiguous())
        self.register_buffer("values", split_heads(attention.to_v(context), self.heads).contiguous())

    def forward(self, hidden_states: Tensor, **_unused: object) -> Tensor:
        """[B,N,C] to the same."""
        q = split_heads(self.to_q(hidden_states), self.heads)
        k = self.keys.expand(q.shape[0], -1, -1, -1)
        v = self.values.expand(q.shape[0], -1, -1, -1)
        result: Tensor = self.to_out(merge_heads(functional.scaled_dot_product_attention(q, k, v)))
        return result


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B,N,C] to [B,heads,N,C/heads]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B,heads,N,d] to [B,N,heads*d]."""
    return x.transpose(1, 2).flatten(2)


def bake_prompt(network: nn.Module, context: Tensor) -> None:
    """Puts the prompt's embedding [1,77,D] into every cross-attention of a UNet or ControlNet; the weights that made
    keys and values of it are dropped.
    """
    blocks: list[Any] = [module for module in network.modules() if hasattr(module, "attn2")]
    for block in blocks:
        block.attn1 = SelfAttention(block.attn1)
        block.attn2 = BakedCrossAttention(block.attn2, context)


class ChosenRow(nn.Module):
    """What a residual block adds for each of a few timesteps, in place of the layer that would compute it."""

    rows: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows.contiguous())

    def forward(self, chosen: Tensor) -> Tensor:
        """[1,N], 1 at one of the N timesteps, to its row [1,C]."""
        return chosen @ self.rows


def bake_timesteps(network: Any, timesteps: Tensor, table: Tensor) -> None:
    """Puts these timesteps [N] float32 into every residual block of a UNet or ControlNet, whose walk then takes
    `choice_of` as its embedding; the layers that embed any timestep are dropped. `table`: see `frequencies`.
    """
    embedding = functional.silu(network.time_embedding(timestep_sinusoid(timesteps, table)))
    blocks: list[Any] = [module for module in network.modules() if getattr(module, "time_emb_proj", None) is not None]
    for block in blocks:
        block.time_emb_proj = ChosenRow(block.time_emb_proj(embedding))
        block.skip_time_act = True  # the activation is in the rows
    del network.time_embedding


def choice_of(timestep: Tensor, timesteps: Tensor) -> Tensor:
    """timestep [1] among timesteps [N] to [1,N]: 1 at it; NaN everywhere where it is none of them."""
    found = ((timestep[:, None] - timesteps[None]).abs() < 1e-3).float()
    return found / found.sum(dim=1, keepdim=True)


def frequencies(channels: int) -> Tensor:
    """The sinusoid's frequencies [channels/2], float32."""
    half = channels // 2
    return torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)


def timestep_sinusoid(timestep: Tensor, table: Tensor) -> Tensor:
    """Cosines, then sines: timestep [T] float32 and `frequencies` to [T,channels], in float32 at any precision.

    Source: section 5.4 of "Attention is all you need" (arXiv:1706.03762) in the form of the DDPM code.
    """
    angles = timestep[:, None] * table[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def encode_levels(network: Any, x: Tensor, embedding: Tensor) -> list[Tensor]:
    """A UNet's or ControlNet's way down: [B,C,H,W] to every residual, and the middle block's output as the last."""
    x = network.conv_in(x)
    residuals = [x]
    for level in network.down_blocks:
        for residual, transformer in _pairs(level):
            x = _block(residual, transformer, x, embedding)
            residuals.append(x)
        for downsampler in level.downsamplers or ():
            x = downsampler(x)
            residuals.append(x)
    middle = network.mid_block
    x = middle.resnets[0](x, embedding)
    for transformer, residual in zip(middle.attentions, middle.resnets[1:], strict=True):
        x = residual(transformer(x, return_dict=False)[0], embedding)
    return [*residuals, x]


def decode_levels(network: Any, residuals: Sequence[Tensor], embedding: Tensor) -> Tensor:
    """A UNet's way up, from what `encode_levels` gave: to [B,C,H,W]."""
    *waiting, x = residuals
    for level in network.up_blocks:
        for residual, transformer in _pairs(level):
            x = _block(residual, transformer, torch.cat([x, waiting.pop()], dim=1), embedding)
        x = upsample(level, x)
    result: Tensor = network.conv_out(functional.silu(network.conv_norm_out(x)))
    return result


def control_outputs(network: Any, residuals: Sequence[Tensor]) -> list[Tensor]:
    """A ControlNet's outputs: its residuals through the once zero convolutions, the middle's last."""
    convolutions = [*network.controlnet_down_blocks, network.controlnet_mid_block]
    return [convolution(x) for convolution, x in zip(convolutions, residuals, strict=True)]


def vae_encode(vae: Any, image: Tensor) -> Tensor:
    """[B,3,8H,8W] in [-1,1] to the moments [B,8,H,W]: mean, then log-variance."""
    encoder = vae.encoder
    x = encoder.conv_in(image)
    for level in encoder.down_blocks:
        for residual in level.resnets:
            x = residual(x, None)
        for downsampler in level.downsamplers or ():
            x = downsampler(x)  # pads right and bottom
    x = _vae_middle(encoder.mid_block, x)
    result: Tensor = vae.quant_conv(encoder.conv_out(functional.silu(encoder.conv_norm_out(x))))
    return result


def vae_decode(vae: Any, latent: Tensor) -> Tensor:
    """[B,4,H,W] to [B,3,8H,8W], about [-1,1]."""
    decoder = vae.decoder
    x = _vae_middle(decoder.mid_block, decoder.conv_in(vae.post_quant_conv(latent)))
    for level in decoder.up_blocks:
        for residual in level.resnets:
            x = residual(x, None)
        x = upsample(level, x)
    result: Tensor = decoder.conv_out(functional.silu(decoder.conv_norm_out(x)))
    return result


def spatial_attention(attention: Any, x: Tensor) -> Tensor:
    """The VAE's attention, one head over all channels: [B,C,H,W] to the same."""
    tokens = attention.group_norm(x).flatten(2).transpose(1, 2)
    q, k, v = (to(tokens).unsqueeze(1) for to in (attention.to_q, attention.to_k, attention.to_v))
    attended = functional.scaled_dot_product_attention(q, k, v).squeeze(1)
    result: Tensor = x + attention.to_out[0](attended).transpose(1, 2).reshape(x.shape)
    return result


def _vae_middle(middle: Any, x: Tensor) -> Tensor:
    x = spatial_attention(middle.attentions[0], middle.resnets[0](x, None))
    result: Tensor = middle.resnets[1](x, None)
    return result


def _pairs(level: Any) -> list[tuple[Any, Any]]:
    transformers = getattr(level, "attentions", None) or [None] * len(level.resnets)
    return list(zip(level.resnets, transformers, strict=True))


def _block(residual: Any, transformer: Any, x: Tensor, embedding: Tensor) -> Tensor:
    x = residual(x, embedding)
    if transformer is not None:
        x = transformer(x, return_dict=False)[0]
    return x


def upsample(level: Any, x: Tensor) -> Tensor:
    """The upsampler at a level's end, where there is one: nearest, then a convolution; [B,C,H,W] to [B,C,2H,2W]."""
    for upsampler in level.upsamplers or ():
        x = upsampler.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    return x
