"""The stages' losses. In: batches of originals and degraded pictures. Out: steps of the optimizers.

RRDBNet learns by L1, as Real-ESRNet does, and a little structural similarity; the autoencoder by L1 and a small
divergence, then its decoder alone by local gradient energy and a patch discriminator as well; UNet and ControlNet by
`training.objective`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from export import forward
from training.config import Losses, Stage
from training.latents import LATENT, draw_latent
from training.loop import Batch, adam
from training.networks import Denoiser, Discriminator
from training.objective import DomainShift

_LONGEST_GRADIENT = 1.0
_TEXTURE_WINDOW = 7
_STRUCTURE_WINDOW = 7


class Base:
    """What all tasks share: one network, its optimizer, and fixed samples to look at."""

    def __init__(self, network: nn.Module, stage: Stage, look: Batch) -> None:
        self.device = look[0].device
        untyped: Any = network  # torch's annotations know no memory format here
        self.network: nn.Module = untyped.to(self.device, memory_format=torch.channels_last)
        self.judges = nn.ModuleList()
        self.optimizers = [adam(self.network, stage)]
        self.look = look

    def put(self, tensor: Tensor) -> Tensor:
        """A tensor of a batch on the task's device."""
        return tensor.to(self.device, non_blocking=True)

    def cast(self) -> contextlib.AbstractContextManager[object]:
        """bfloat16 on a GPU; on a CPU float32 is faster."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def descend(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """One step down, gradients clipped."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        for group in optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], _LONGEST_GRADIENT)
        optimizer.step()


class Enlarge(Base):
    """RRDBNet: the original from the degraded picture."""

    def __init__(self, network: nn.Module, stage: Stage, look: Batch, losses: Losses) -> None:
        super().__init__(network, stage, look)
        self.losses = losses

    def step(self, batch: Batch) -> Mapping[str, Tensor]:
        """See `training.loop.Task`."""
        original, low = (self.put(tensor) for tensor in batch)
        with self.cast():
            enlarged = self.network(low)
        l1 = functional.l1_loss(enlarged.float(), original)
        similarity = structural_similarity(enlarged.float(), original)
        self.descend(l1 + self.losses.structure * (1 - similarity), self.optimizers[0])
        return {"l1": l1, "ssim": similarity}

    def picture(self, network: nn.Module) -> Tensor:
        """Degraded, restored, original."""
        original, low = self.look
        near = functional.interpolate(low, scale_factor=4, mode="nearest")
        return rows(near, network(low), original)


class Autoencode(Base):
    """Encoder and decoder: the original from its latent, with noise on it."""

    def __init__(self, network: nn.Module, stage: Stage, look: Batch, losses: Losses) -> None:
        super().__init__(network, stage, look)
        self.losses = losses

    def encode(self, original: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance [B,4,H,W] of the posterior."""
        moments = forward.vae_encode(self.network, original * 2 - 1).float()
        mean, logvar = moments.chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def disturbed(self, mean: Tensor, logvar: Tensor) -> Tensor:
        """A sample of the posterior with further noise, so that the decoder bears an imperfect latent."""
        further = (
            self.losses.latent_noise * torch.rand(mean.shape[0], 1, 1, 1, device=mean.device) * mean.detach().std()
        )
        deviation = (torch.exp(logvar) + further**2).sqrt()
        return mean + deviation * torch.randn_like(mean)

    def step(self, batch: Batch) -> Mapping[str, Tensor]:
        """See `training.loop.Task`."""
        original = self.put(batch[0])
        with self.cast():
            mean, logvar = self.encode(original)
            decoded = forward.vae_decode(self.network, self.disturbed(mean, logvar)).float()
        l1 = functional.l1_loss(decoded, original * 2 - 1)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        self.descend(l1 + self.losses.kl * kl, self.optimizers[0])
        return {"l1": l1, "kl": kl, "std": (0.5 * logvar).exp().mean(), "spread": mean.std()}

    def picture(self, network: nn.Module) -> Tensor:
        """Decoded, original."""
        original = self.look[0]
        mean = forward.vae_encode(network, original * 2 - 1).chunk(2, dim=1)[0]
        return rows((forward.vae_decode(network, mean) + 1) / 2, original)


class Sharpen(Autoencode):
    """The decoder alone, the encoder at rest: as sharp as the original, without a pattern of its own."""

    def __init__(self, network: nn.Module, stage: Stage, look: Batch, losses: Losses) -> None:
        for part in ("encoder", "quant_conv"):
            network.get_submodule(part).requires_grad_(False)
        super().__init__(network, stage, look, losses)
        judge = Discriminator().to(self.device)
        self.judges = nn.ModuleList([judge])
        self.optimizers.append(adam(judge, stage))

    def step(self, batch: Batch) -> Mapping[str, Tensor]:
        """See `training.loop.Task`."""
        original = self.put(batch[0])
        judge = self.judges[0]
        with self.cast():
            with torch.no_grad():
                latent = self.disturbed(*self.encode(original))
            decoded = forward.vae_decode(self.network, latent).float()
        real = original * 2 - 1
        l1 = functional.l1_loss(decoded, real)
        texture = functional.l1_loss(local_energy(decoded), local_energy(real))
        fooled = -judge(decoded).mean()
        loss = l1 + self.losses.texture * texture + self.losses.adversarial * fooled
        self.descend(loss, self.optimizers[0])
        seen = functional.relu(1 - judge(real)).mean() + functional.relu(1 + judge(decoded.detach())).mean()
        self.descend(seen, self.optimizers[1])
        sharpness = local_energy(decoded.detach()).mean() / local_energy(real).mean()
        return {"l1": l1, "texture": texture, "fooled": fooled, "judge": seen, "sharpness": sharpness}


class Denoise(Base):
    """UNet alone on originals, or UNet and ControlNet on the domain shift.

    Samples are pictures or what `LatentEncoder` made of them.
    """

    def __init__(
        self,
        network: Denoiser,
        stage: Stage,
        look: Batch,
        *,
        encode: Callable[[Batch], Batch],
        shift: DomainShift,
        timesteps: int,
        controlled: bool,
    ) -> None:
        network.controlnet.requires_grad_(controlled)
        super().__init__(network, stage, look)
        self.encode = encode
        self.shift = shift
        self.timesteps = timesteps
        self.controlled = controlled

    def step(self, batch: Batch) -> Mapping[str, Tensor]:
        """See `training.loop.Task`. On originals the loss is that of the noise, on the domain shift that of x0."""
        original, degraded = (self.put(tensor) for tensor in batch)
        original, degraded = self.encode((original, degraded))
        timestep = torch.randint(self.timesteps, (original.shape[0],), device=self.device)
        noise = torch.randn_like(original[:, :LATENT])
        x0 = draw_latent(original, torch.randn_like(noise))
        x_t, predicted = self.predict(self.network, x0, degraded, timestep, noise)
        shifted = functional.l1_loss(self.shift.denoise(x_t, predicted, timestep), x0)
        plain = functional.l1_loss(predicted, noise)
        self.descend(shifted if self.controlled else plain, self.optimizers[0])
        return {"x0": shifted, "noise": plain}

    def predict(
        self, network: nn.Module, x0: Tensor, degraded: Tensor, timestep: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x_t and the noise predicted in it; x0 and noise [B,4,H,W], degraded moments [B,8,H,W], timestep [B]."""
        condition = degraded[:, :LATENT] if self.controlled else None
        x0_hat = draw_latent(degraded, torch.randn_like(noise)) if self.controlled else x0
        x_t = self.shift.mix(x0, x0_hat, noise, timestep)
        with self.cast():
            predicted = network(x_t, timestep.float(), condition)
        return x_t, predicted.float()

    def picture(self, network: nn.Module) -> Tensor:
        """The first latent channels: low resolution, predicted at the start of a restoration, original."""
        original, degraded = self.encode(self.look)
        x0, x0_hat = original[:, :LATENT], degraded[:, :LATENT]
        timestep = torch.full((x0.shape[0],), min(self.timesteps, 500) - 1, device=self.device)
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        x_t, predicted = self.predict(network, x0, degraded, timestep, noise)
        return rows(*(x[:, :3] / 6 + 0.5 for x in (x0_hat, self.shift.denoise(x_t, predicted, timestep), x0)))


def structural_similarity(image: Tensor, original: Tensor) -> Tensor:
    """Wang et al. 2004 with an even window: [B,3,H,W] in [0,1] to the mean over channels and places, at most 1."""

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, _STRUCTURE_WINDOW, stride=1)

    mu_x, mu_y = mean(image), mean(original)
    variances = mean(image**2) - mu_x**2 + mean(original**2) - mu_y**2
    covariance = mean(image * original) - mu_x * mu_y
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mu_x * mu_y + c1) * (2 * covariance + c2) / ((mu_x**2 + mu_y**2 + c1) * (variances + c2))).mean()


def local_energy(image: Tensor) -> Tensor:
    """Mean gradient magnitude of luma around every pixel: [B,3,H,W] to [B,1,H-7,W-7]; windows lie on no grid."""
    grey = image.mean(dim=1, keepdim=True)
    down = grey[..., 1:, :-1] - grey[..., :-1, :-1]
    right = grey[..., :-1, 1:] - grey[..., :-1, :-1]
    return functional.avg_pool2d((down**2 + right**2 + 1e-6).sqrt(), _TEXTURE_WINDOW, stride=1)


def rows(*columns: Tensor) -> Tensor:
    """Batches [B,3,H,W] side by side: [3,B*H,n*W]."""
    return torch.cat([torch.cat(list(column.float()), dim=1) for column in columns], dim=2)
