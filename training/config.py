"""What the demo model is and how it is trained. Out: `Demo`."""

from __future__ import annotations

from dataclasses import dataclass, field

from export.architecture import Architecture, RrdbArchitecture, UNetArchitecture, VaeArchitecture

CONTEXT_TOKENS = 77
_CONTEXT_WIDTH = 64
_HEAD_WIDTH = 32
_GROUPS = 8

_CHANNELS = (64, 64, 64, 64)
_ATTENTION = (False, False, True, False)


def _unet(in_channels: int, out_channels: int) -> UNetArchitecture:
    return UNetArchitecture(
        in_channels=in_channels,
        out_channels=out_channels,
        channels=_CHANNELS,
        res_blocks=1,
        attention=_ATTENTION,
        context_width=_CONTEXT_WIDTH,
        depth=1,
        linear_projection=True,
        head_width=_HEAD_WIDTH,
        norm_groups=_GROUPS,
    )


ARCHITECTURE = Architecture(
    unet=_unet(4, 4),
    controlnet=_unet(8, 0),
    vae=VaeArchitecture(channels=(32, 32, 64, 96), res_blocks=1, z_channels=4, embed_channels=4, norm_groups=_GROUPS),
    rrdb=RrdbArchitecture(features=32, blocks=4, growth=16),
    text=None,
)
"""The topology of the full-size model, narrow: every level of the VAE and the UNet, fewer channels and blocks.

Group norms have 8 groups where the official code has 32. In a narrow decoder those would be groups of one channel,
which divide the brightness and contrast of a picture out: trained so, it learns bright spots and borders instead.
"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How one stage is trained. Steps are optimizer steps; a crop is the side of an original in pixels."""

    steps: int
    batch: int
    crop: int
    learning_rate: float
    warm_up: int = 100
    """Steps over which the learning rate rises."""
    decay: float = 0.3
    """Share of the steps, at the end, over which it falls to a twentieth."""
    average: float = 0.999
    """Decay of the running average of the weights, which is what a stage gives."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Weights of the losses beside L1."""

    structure: float = 0.5
    """Of structural dissimilarity; RRDBNet."""
    kl: float = 1e-4
    """Of the posterior's divergence from a standard normal, mean over the latent."""
    latent_noise: float = 0.05
    """Noise that the decoder has to bear, relative to the latent's standard deviation."""
    texture: float = 2.0
    """Of the difference of local gradient energy; decoder stage."""
    adversarial: float = 0.06
    """Of the hinge loss against a patch discriminator; decoder stage."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The recipe of the demo model."""

    seed: int = 2024
    architecture: Architecture = ARCHITECTURE
    losses: Losses = field(default_factory=Losses)
    t1: int = 500
    """Length of the shifting sequence."""
    timesteps: int = 1000
    """Training draws t uniformly below this."""
    latent_pairs: int = 0
    """Pairs of latents computed once and used again and again; 0: every batch is new (for a GPU)."""
    rrdbnet: Stage = Stage(steps=20_000, batch=8, crop=128, learning_rate=4e-4)
    vae: Stage = Stage(steps=12_000, batch=4, crop=128, learning_rate=1e-4)
    decoder: Stage = Stage(steps=6_000, batch=4, crop=128, learning_rate=1e-4)
    unet: Stage = Stage(steps=8_000, batch=8, crop=256, learning_rate=4e-4)
    domain_shift: Stage = Stage(steps=20_000, batch=8, crop=256, learning_rate=4e-4)
