"""The prompt's embedding. In: token ids [B,77]. Out: [B,77,D], OpenCLIP's penultimate layer after `ln_final`.

Only the exporter runs it, once. Source: OpenCLIP (ViT-H/14) as Stable Diffusion 2 uses it; the attribute names are the
keys of published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.architecture import TextArchitecture

PROMPT = "clean, high-resolution, 8k"
"""What DoSSR was trained with."""
PROMPT_TOKENS = (49406, 3772, 267, 1400, 268, 9977, 267, 279, 330, 49407)
"""`PROMPT` in CLIP's vocabulary, start and end included; zeros follow."""


class SelfAttention(nn.Module):
    """Causal attention with the three projections in one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B,N,D] to the same."""
        batch, length, width = x.shape
        projected = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        result: Tensor = self.out_proj(attended.transpose(1, 2).reshape(batch, length, width))
        return result


class Block(nn.Module):
    """Attention and a multilayer perceptron with exact GELU, each after a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-5)
        self.attn = SelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """[B,N,D] to the same."""
        x = x + self.attn(self.ln_1(x))
        residual: Tensor = self.mlp["c_proj"](functional.gelu(self.mlp["c_fc"](self.ln_2(x))))
        return x + residual


class TextTower(nn.Module):
    """Every block but the last, which Stable Diffusion 2 does not use."""

    def __init__(self, arch: TextArchitecture) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(arch.vocabulary, arch.width)
        self.positional_embedding = nn.Parameter(torch.empty(arch.positions, arch.width))
        blocks = (Block(arch.width, arch.heads) for _ in range(arch.layers - 1))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        self.ln_final = nn.LayerNorm(arch.width, eps=1e-5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B,N] int64 to [B,N,D] float32."""
        x = self.token_embedding(tokens) + self.positional_embedding
        blocks = self.transformer["resblocks"]
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            x = block(x)
        result: Tensor = self.ln_final(x)
        return result


def prompt_tokens(positions: int = 77) -> Tensor:
    """The default prompt's ids [1,positions] int64."""
    tokens = torch.zeros(1, positions, dtype=torch.int64)
    tokens[0, : len(PROMPT_TOKENS)] = torch.tensor(PROMPT_TOKENS)
    return tokens
