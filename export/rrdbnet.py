"""RRDBNet, the x4 enlarger in front of the diffusion. In: [B,3,h,w] in [0,1]. Out: [B,3,4h,4w], about [0,1].

Source: ESRGAN (arXiv:1809.00219) in the form of Real-ESRGAN (arXiv:2107.10833); the attribute names are the keys of
published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.architecture import RrdbArchitecture

RESIDUAL_SCALE = 0.2
"""What each dense block's and each block's result is weighted with."""


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it gave."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B,features,h,w] to the same."""
        seen = [x]
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(_activate(convolution(torch.cat(seen, dim=1))))
        residual: Tensor = self.conv5(torch.cat(seen, dim=1))
        return x + residual * RESIDUAL_SCALE


class ResidualBlock(nn.Module):
    """Three dense blocks and a residual around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """[B,features,h,w] to the same."""
        residual: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + residual * RESIDUAL_SCALE


class RRDBNet(nn.Module):
    """The whole network; its output is not clamped."""

    def __init__(self, arch: RrdbArchitecture) -> None:
        super().__init__()
        width = arch.features
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width, arch.growth) for _ in range(arch.blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """[B,3,h,w] to [B,3,4h,4w]."""
        features = self.conv_first(image)
        features = features + self.conv_body(self.body(features))
        for convolution in (self.conv_up1, self.conv_up2):
            features = _activate(convolution(functional.interpolate(features, scale_factor=2, mode="nearest")))
        result: Tensor = self.conv_last(_activate(self.conv_hr(features)))
        return result


def _activate(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, negative_slope=0.2)
