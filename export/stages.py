"""The list of a bundle's graphs and how each module is made. In: a `Source`. Out: `Stage`s, in the order of the data.

A new graph is one line of `stages`.
"""

from __future__ import annotations

from collections.abc import Callable
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


def stages(source: Source, *, split_controlnet: bool = False) -> list[Stage]:
    """Every graph of the bundle."""
    checkpoint, arch, scale = source.checkpoint, source.architecture, source.scale_factor

    def controlnet() -> wrappers.ControlNet:
        return wrappers.ControlNet(modules.load_controlnet(checkpoint, arch), arch.controlnet, source.context)

    def unet() -> wrappers.UNet:
        return wrappers.UNet(modules.load_unet(checkpoint, arch), arch.unet, source.context)

    def preprocess() -> wrappers.Graph:
        return wrappers.Preprocess(modules.load_rrdbnet(checkpoint, arch))

    def encode() -> wrappers.Graph:
        return wrappers.Encode(modules.load_vae_encoder(checkpoint, arch), scale)

    def condition() -> wrappers.Graph:
        encoder = modules.load_vae_encoder(checkpoint, arch, official.CONDITION_ENCODER)
        return wrappers.Condition(encoder, scale)

    def decode() -> wrappers.Graph:
        return wrappers.Decode(modules.load_vae_decoder(checkpoint, arch), scale)

    found = [
        Stage(spec=graphs.PREPROCESS, create=preprocess, cost=39),
        Stage(spec=graphs.ENCODE, create=encode, cost=21),
    ]
    if source.separate_condition:
        found.append(Stage(spec=graphs.CONDITION, create=condition, cost=21))
    if split_controlnet:
        controlnet_spec, unet_spec = graphs.split_denoise(residual_shapes(arch.controlnet))
        found.append(Stage(spec=controlnet_spec, create=controlnet, cost=55))
        found.append(Stage(spec=unet_spec, create=unet, cost=100))
    else:
        found.append(Stage(spec=graphs.DENOISE, create=lambda: wrappers.Denoise(controlnet(), unet()), cost=154))
    return [*found, Stage(spec=graphs.DECODE, create=decode, cost=20)]


def residual_shapes(arch: UNetArchitecture) -> list[tuple[int, int]]:
    """(channels, downsampling) of each output of the ControlNet, the middle block's last."""
    shapes = [(arch.channels[0], 1)]
    last = len(arch.channels) - 1
    for level, channels in enumerate(arch.channels):
        shapes += [(channels, 2**level)] * arch.res_blocks
        if level < last:
            shapes.append((channels, 2 ** (level + 1)))
    return [*shapes, (arch.channels[-1], 2**last)]
