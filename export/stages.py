"""The list of a bundle's graphs and how each module is made. In: a `Source`. Out: `Stage`s, in the order of the data.

A new graph is one line of `stages`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engines import graphs
from engines.graphs import GraphSpec
from export import checkpoint as official
from export import modules, wrappers
from export.architecture import UNetArchitecture
from export.source import Source


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One graph to export."""

    spec: GraphSpec
    create: Callable[[], wrappers.Graph]
    """The fp32 module with its weights; only one is held at a time."""
    cost: float
    """Seconds of a full-size export on two cores, for the estimate of what remains."""
    parameters: int
    """Of the network, with what the prompt's baking drops."""


def stages(source: Source, *, split_controlnet: bool = False, timesteps: Sequence[float] = ()) -> list[Stage]:
    """Every graph of the bundle; `timesteps`: those that are baked, none: any may be asked for."""
    checkpoint, arch, scale = source.checkpoint, source.architecture, source.scale_factor

    def controlnet() -> wrappers.ControlNet:
        network = modules.load_controlnet(checkpoint, arch)
        return wrappers.ControlNet(network, arch.controlnet, source.context, timesteps)

    def unet() -> wrappers.UNet:
        return wrappers.UNet(modules.load_unet(checkpoint, arch), arch.unet, source.context, timesteps)

    def preprocess() -> wrappers.Graph:
        return wrappers.Preprocess(modules.load_rrdbnet(checkpoint, arch))

    def encode() -> wrappers.Graph:
        return wrappers.Encode(modules.load_vae_encoder(checkpoint, arch), scale)

    def condition() -> wrappers.Graph:
        encoder = modules.load_vae_encoder(checkpoint, arch, official.CONDITION_ENCODER)
        return wrappers.Condition(encoder, scale)

    def decode() -> wrappers.Graph:
        return wrappers.Decode(modules.load_vae_decoder(checkpoint, arch), scale)

    shapes = checkpoint.shapes

    def stage(spec: GraphSpec, create: Callable[[], wrappers.Graph], cost: float, *prefixes: str) -> Stage:
        parameters = sum(math.prod(shape) for key, shape in shapes.items() if key.startswith(prefixes))
        return Stage(spec=spec, create=create, cost=cost, parameters=parameters)

    found = [
        stage(graphs.PREPROCESS, preprocess, 39, official.PREPROCESS),
        stage(graphs.ENCODE, encode, 21, f"{official.VAE}encoder.", f"{official.VAE}quant_conv."),
    ]
    if source.separate_condition:
        found.append(stage(graphs.CONDITION, condition, 21, official.CONDITION_ENCODER))
    if split_controlnet:
        controlnet_spec, unet_spec = graphs.split_denoise(residual_shapes(arch.controlnet))
        found.append(stage(controlnet_spec, controlnet, 55, official.CONTROLNET))
        found.append(stage(unet_spec, unet, 100, official.UNET))
    else:

        def denoise() -> wrappers.Graph:
            return wrappers.Denoise(controlnet(), unet())

        found.append(stage(graphs.DENOISE, denoise, 154, official.CONTROLNET, official.UNET))
    found.append(stage(graphs.DECODE, decode, 20, f"{official.VAE}decoder.", f"{official.VAE}post_quant_conv."))
    return found


def residual_shapes(arch: UNetArchitecture) -> list[tuple[int, int]]:
    """(channels, downsampling) of each output of the ControlNet, the middle block's last."""
    shapes = [(arch.channels[0], 1)]
    last = len(arch.channels) - 1
    for level, channels in enumerate(arch.channels):
        shapes += [(channels, 2**level)] * arch.res_blocks
        if level < last:
            shapes.append((channels, 2 ** (level + 1)))
    return [*shapes, (arch.channels[-1], 2**last)]
