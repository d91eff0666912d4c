"""The demo model's networks, ready to learn. In: an `Architecture`. Out: torch modules with fresh weights.

They are the modules that the export path fills from a checkpoint, so that what is trained is what is exported.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from export import forward, modules
from export.architecture import Architecture
from export.rrdbnet import RRDBNet
from training.config import CONTEXT_TOKENS

_FIRST_LOGVAR = -6.0
_FIRST_BRANCH = 0.02
_FIRST_GAIN = 0.95


def initialised(network: nn.Module) -> nn.Module:
    """A network of the meta device, on the CPU with torch's default initial weights."""
    network = network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.GroupNorm | nn.LayerNorm):
            module.reset_parameters()
    return network.train()


def create_rrdbnet(arch: Architecture) -> RRDBNet:
    """The enlarger; its dense blocks begin with a tenth of the default weights (arXiv:1809.00219, section 3.1)."""
    network = RRDBNet(arch.rrdb)
    with torch.no_grad():
        for weight in network.body.parameters():
            weight.mul_(0.1)
    return network


def create_vae(arch: Architecture) -> nn.Module:
    """The autoencoder, which begins as an average of 8x8 pixels and its repetition.

    Residual branches begin near zero. Around them three color channels are carried, each with its negative (their
    difference passes the last SiLU unchanged) and a constant (without it group norm would divide brightness out). The
    posterior begins narrow: with a deviation of one the decoder sees little but noise.
    """
    network: Any = initialised(modules.create_vae(arch.vae))
    encoder, decoder = network.encoder, network.decoder
    with torch.no_grad():
        for part in (encoder, decoder):
            _begin(part.conv_in)
            _carry(
                [layer for name, layer in part.named_modules() if name.endswith(("conv_shortcut", "samplers.0.conv"))]
            )
            for name, layer in part.named_modules():
                if name.endswith(("conv2", "to_out.0")):
                    layer.weight.mul_(_FIRST_BRANCH)
                    layer.bias.zero_()
            _end(part.conv_out)
        for layer, kept in ((network.quant_conv, 3), (network.post_quant_conv, 3)):
            layer.weight[:kept] = 0.0
            layer.weight[range(kept), range(kept)] = 1.0
            layer.bias[:kept] = 0.0
        network.quant_conv.bias[arch.vae.embed_channels :] = _FIRST_LOGVAR
    return cast(nn.Module, network)


def _center(layer: Any) -> int:
    return int(layer.kernel_size[0]) // 2


def _begin(layer: Any) -> None:
    """Writes each of three inputs, its negative and a constant to a group of four outputs."""
    middle = _center(layer)
    for color in range(3):
        for place, sign in ((0, 1.0), (1, -1.0), (2, 0.0)):
            row = 4 * color + place
            layer.weight[row] = 0.0
            layer.weight[row, color, middle, middle] = sign
            layer.bias[row] = float(place == 2)


def _carry(layers: Sequence[Any]) -> None:
    """Lets the carried channels through: unchanged, or as the mean of 2x2 where the layer's stride is 2."""
    for layer in layers:
        middle = _center(layer)
        taps = slice(0, 2) if layer.stride[0] == 2 else slice(middle, middle + 1)
        for row in (4 * color + place for color in range(3) for place in range(3)):
            layer.weight[row] = 0.0
            layer.weight[row, row, taps, taps] = 1.0 / layer.stride[0] ** 2
            layer.bias[row] = 0.0


def _end(layer: Any) -> None:
    """Reads the colors, scaled back about as group norm scaled them."""
    middle = _center(layer)
    for color in range(3):
        layer.weight[color] = 0.0
        layer.weight[color, 4 * color, middle, middle] = _FIRST_GAIN
        layer.weight[color, 4 * color + 1, middle, middle] = -_FIRST_GAIN
        layer.bias[color] = 0.0


class Denoiser(nn.Module):
    """UNet, ControlNet and the prompt that both learn. Noise is predicted for [B,4,H,W] latents."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.unet = initialised(modules.create_unet(arch.unet))
        self.controlnet = initialised(modules.create_controlnet(arch.controlnet))
        self.context = nn.Parameter(torch.randn(CONTEXT_TOKENS, arch.unet.context_width))
        self.register_buffer("frequencies", forward.frequencies(arch.unet.channels[0]), persistent=False)
        blocks: list[Any] = [module for module in self.modules() if hasattr(module, "attn2")]
        for block in blocks:
            block.attn2.register_forward_pre_hook(self._give_context, with_kwargs=True)

    def _give_context(self, _attention: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        hidden = args[0] if args else kwargs["hidden_states"]
        context = self.context.to(hidden.dtype).expand(hidden.shape[0], -1, -1)
        return args, kwargs | {"encoder_hidden_states": context}

    def start_control(self) -> None:
        """Makes the ControlNet the UNet's copy: its encoder, no weight on the condition, zero outputs.

        Source: arXiv:2302.05543, section 3.1; the condition is a latent and is concatenated, as in DoSSR.
        """
        own, base = self.controlnet.state_dict(), self.unet.state_dict()
        with torch.no_grad():
            for name, weight in own.items():
                if name.startswith("controlnet_"):
                    weight.zero_()
                elif name == "conv_in.weight":
                    weight.zero_()
                    weight[:, : base[name].shape[1]] = base[name]
                else:
                    weight.copy_(base[name])

    def _embed(self, network: Any, timestep: Tensor) -> Tensor:
        frequencies: Any = self.frequencies
        embedding: Tensor = network.time_embedding(forward.timestep_sinusoid(timestep, frequencies))
        return embedding

    def forward(self, latent: Tensor, timestep: Tensor, condition: Tensor | None = None) -> Tensor:
        """The noise in `latent` [B,4,H,W] at `timestep` [B]; without a condition the UNet alone."""
        residuals = forward.encode_levels(self.unet, latent, self._embed(self.unet, timestep))
        if condition is not None:
            both = torch.cat([latent, condition], dim=1)
            levels = forward.encode_levels(self.controlnet, both, self._embed(self.controlnet, timestep))
            controls = forward.control_outputs(self.controlnet, levels)
            residuals = [residual + control for residual, control in zip(residuals, controls, strict=True)]
        return forward.decode_levels(self.unet, residuals, self._embed(self.unet, timestep))


class Discriminator(nn.Module):
    """Judges patches: [B,3,H,W] in [-1,1] to [B,1,H/8,W/8], positive where they look real."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        spectral = nn.utils.parametrizations.spectral_norm
        widths = (3, width, 2 * width, 3 * width)
        self.levels = nn.ModuleList(
            spectral(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in itertools.pairwise(widths)
        )
        self.last = spectral(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        for level in self.levels:
            image = functional.leaky_relu(level(image), 0.2)
        judged: Tensor = self.last(image)
        return judged
