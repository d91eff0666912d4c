"""One module a graph. In: a network with its weights. Out: an `nn.Module` whose arguments and results are those of
`engines.graphs`, float32 at both ends in either precision.

In half, what is small and decides the range stays float32: the timestep's sinusoid, the posterior's exponential, the
scaling of latents and images. GroupNormalization, LayerNormalization and Attention keep their sums in float32 by their
definition in ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from export import forward
from export.architecture import UNetArchitecture


class Graph(nn.Module):
    """A module that knows the type of its weights."""

    dtype = torch.float32

    def half(self) -> Graph:
        """Casts the weights, in place."""
        super().half()
        self.dtype = torch.float16
        return self


class Preprocess(Graph):
    """RRDBNet: image [B,3,h,w] to [B,3,4h,4w], both in [0,1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        enlarged: Tensor = self.network(image.to(self.dtype))
        return enlarged.float().clamp(0.0, 1.0)


class Encode(Graph):
    """The autoencoder's posterior: image [B,3,8H,8W] in [0,1] to mean and standard deviation [B,4,H,W]."""

    def __init__(self, vae: nn.Module, scale_factor: float) -> None:
        super().__init__()
        self.vae = vae
        self.scale_factor = scale_factor

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        moments = forward.vae_encode(self.vae, (image * 2.0 - 1.0).to(self.dtype)).float()
        mean, logvar = moments.chunk(2, dim=1)
        std = torch.exp(logvar.clamp(-30.0, 20.0) * 0.5)
        return mean * self.scale_factor, std * self.scale_factor


class Condition(Graph):
    """The condition's own encoder, its mode: image [B,3,8H,8W] in [0,1] to [B,4,H,W]."""

    def __init__(self, vae: nn.Module, scale_factor: float) -> None:
        super().__init__()
        self.vae = vae
        self.scale_factor = scale_factor

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        moments = forward.vae_encode(self.vae, (image * 2.0 - 1.0).to(self.dtype)).float()
        return moments.chunk(2, dim=1)[0] * self.scale_factor


class Decode(Graph):
    """The autoencoder's decoder: latent [B,4,H,W] to image [B,3,8H,8W], about [0,1], not clamped."""

    def __init__(self, vae: nn.Module, scale_factor: float) -> None:
        super().__init__()
        self.vae = vae
        self.scale_factor = scale_factor

    def forward(self, latent: Tensor) -> Tensor:
        """See the class."""
        image = forward.vae_decode(self.vae, (latent / self.scale_factor).to(self.dtype)).float()
        return (image + 1.0) * 0.5


class ControlNet(Graph):
    """latent, condition [B,4,H,W], timestep [1], control_scale [1] to every control, times control_scale.

    The prompt's embedding [1,77,D] is baked when the module is built, and so are `timesteps` where there are any: it
    then takes no others (they give NaN).
    """

    def __init__(
        self, network: nn.Module, arch: UNetArchitecture, context: Tensor, timesteps: Sequence[float] = ()
    ) -> None:
        super().__init__()
        forward.bake_prompt(network, context)
        self.network = network
        self._embedding = _TimeEmbedding(network, arch, timesteps)

    def controls(self, latent: Tensor, condition: Tensor, timestep: Tensor, control_scale: Tensor) -> list[Tensor]:
        """The controls in the weights' type."""
        embedding = self._embedding(timestep, self.dtype)
        both = torch.cat([latent, condition], dim=1).to(self.dtype)
        outputs = forward.control_outputs(self.network, forward.encode_levels(self.network, both, embedding))
        scale = control_scale.to(self.dtype)
        return [output * scale for output in outputs]

    def forward(self, latent: Tensor, condition: Tensor, timestep: Tensor, control_scale: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        return tuple(c.float() for c in self.controls(latent, condition, timestep, control_scale))


class UNet(Graph):
    """latent [B,4,H,W], timestep [1] and the controls to output [B,4,H,W]; baked as `ControlNet`."""

    def __init__(
        self, network: nn.Module, arch: UNetArchitecture, context: Tensor, timesteps: Sequence[float] = ()
    ) -> None:
        super().__init__()
        forward.bake_prompt(network, context)
        self.network = network
        self._embedding = _TimeEmbedding(network, arch, timesteps)

    def predict(self, latent: Tensor, timestep: Tensor, controls: Sequence[Tensor]) -> Tensor:
        """The prediction from controls in the weights' type."""
        embedding = self._embedding(timestep, self.dtype)
        residuals = forward.encode_levels(self.network, latent.to(self.dtype), embedding)
        steered = [residual + control for residual, control in zip(residuals, controls, strict=True)]
        return forward.decode_levels(self.network, steered, embedding).float()

    def forward(self, latent: Tensor, timestep: Tensor, *controls: Tensor) -> Tensor:
        """See the class."""
        return self.predict(latent, timestep, [control.to(self.dtype) for control in controls])


class Denoise(Graph):
    """ControlNet and UNet in one: latent, condition [B,4,H,W], timestep [1], control_scale [1] to output [B,4,H,W]."""

    def __init__(self, controlnet: ControlNet, unet: UNet) -> None:
        super().__init__()
        self.controlnet = controlnet
        self.unet = unet

    def half(self) -> Denoise:
        """Casts both networks, in place."""
        super().half()
        self.controlnet.dtype = self.unet.dtype = self.dtype
        return self

    def forward(self, latent: Tensor, condition: Tensor, timestep: Tensor, control_scale: Tensor) -> Tensor:
        """See the class."""
        controls = self.controlnet.controls(latent, condition, timestep, control_scale)
        return self.unet.predict(latent, timestep, controls)


class _TimeEmbedding:
    """The timestep as the network takes it. No module: its tables are no weights, and stay float32."""

    def __init__(self, network: Any, arch: UNetArchitecture, timesteps: Sequence[float]) -> None:
        self._network = network
        self._frequencies = forward.frequencies(arch.channels[0])
        self._timesteps = torch.tensor(timesteps, dtype=torch.float32)
        if timesteps:
            forward.bake_timesteps(network, self._timesteps, self._frequencies)

    def __call__(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        if len(self._timesteps):
            return forward.choice_of(timestep, self._timesteps).to(dtype)
        sinusoid = forward.timestep_sinusoid(timestep, self._frequencies)
        embedding: Tensor = self._network.time_embedding(sinusoid.to(dtype))
        return embedding
