"""Pictures to latents for the diffusion stages. In: trained RRDBNet and autoencoder. Out: scaled moments.

The moments of a picture are mean and standard deviation in one tensor [B,8,H,W], times the model's scale factor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from engines.files import atomic_path
from export.wrappers import Encode, Preprocess
from training.loop import Batch

LATENT = 4
"""Latent channels."""


class LatentEncoder:
    """Makes moments of (original, low resolution) pictures as the runtime will: enlarged, clamped, encoded."""

    def __init__(self, rrdbnet: nn.Module, vae: nn.Module, scale_factor: float, device: torch.device) -> None:
        self._preprocess = Preprocess(rrdbnet).to(device).eval().requires_grad_(False)
        self._encode = Encode(vae, scale_factor).to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """Pictures [B,3,8H,8W] and [B,3,2H,2W] to moments [B,8,H,W] of both."""
        original, low = batch
        first, second = (
            torch.cat(self._encode(image), dim=1).contiguous() for image in (original, self._preprocess(low))
        )
        return first, second


class StoredLatents(Dataset[Batch]):
    """A number of pairs of moments, again and again."""

    def __init__(self, moments: Batch, length: int) -> None:
        self._moments = moments
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        first, second = self._moments
        place = index % len(first)
        return first[place], second[place]


def store_latents(
    encode: LatentEncoder, pairs: Dataset[Batch], path: Path, device: torch.device, say: Callable[[str], None]
) -> Batch:
    """The moments of all pairs [N,8,H,W], from the file where an earlier run left them."""
    if not path.exists():
        done: list[Batch] = []
        for number, (original, low) in enumerate(DataLoader(pairs, batch_size=4)):
            done.append(encode((original.to(device), low.to(device))))
            if number % 50 == 49:
                say(f"latents {4 * (number + 1)}")
        first, second = (torch.cat([one[side].cpu() for one in done]).contiguous() for side in range(2))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            safetensors.torch.save_file({"original": first, "degraded": second}, temporary)
    stored = safetensors.torch.load_file(path)
    return stored["original"], stored["degraded"]


@torch.no_grad()
def measure_scale(vae: nn.Module, images: Tensor) -> float:
    """What the latent has to be multiplied with to have a standard deviation of one over these images [N,3,H,W]."""
    mean, _std = Encode(vae, 1.0)(images)
    return round(1.0 / float(mean.std()), 5)


def draw_latent(moments: Tensor, noise: Tensor) -> Tensor:
    """A sample of the posterior: moments [B,8,H,W], noise [B,4,H,W]."""
    mean, std = moments.chunk(2, dim=1)
    return mean + std * noise
