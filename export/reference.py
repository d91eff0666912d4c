"""The networks in torch, fp32, under the graphs' names. In: a checkpoint. Out: a `Reference` for tests of parity."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from engines import graphs
from export.source import Source, open_source
from export.stages import Stage, stages


class Reference:
    """Every graph as a torch module, called as the graph is; all of them stay in memory."""

    def __init__(self, source: Source) -> None:
        self.source = source
        with torch.no_grad():
            found: list[Stage] = stages(source)
            self.modules: dict[str, nn.Module] = {stage.spec.name: stage.create().eval() for stage in found}

    @torch.inference_mode()
    def preprocess(self, image: Tensor) -> Tensor:
        """[B,3,h,w] in [0,1] to [B,3,4h,4w] in [0,1], float32."""
        result: Tensor = self.modules[graphs.PREPROCESS.name](image)
        return result

    @torch.inference_mode()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[B,3,8H,8W] in [0,1] to latent_mean and latent_std [B,4,H,W], both times scale_factor."""
        mean, std = self.modules[graphs.ENCODE.name](image)
        return mean, std

    @torch.inference_mode()
    def condition(self, image: Tensor) -> Tensor:
        """[B,3,8H,8W] in [0,1] to [B,4,H,W]; `latent_mean` where the two encoders are equal."""
        module = self.modules.get(graphs.CONDITION.name)
        result: Tensor = self.encode(image)[0] if module is None else module(image)
        return result

    @torch.inference_mode()
    def denoise(self, latent: Tensor, condition: Tensor, timestep: float, control_scale: float = 1.0) -> Tensor:
        """latent, condition [B,4,H,W] to what the network predicts, [B,4,H,W]."""
        module = self.modules[graphs.DENOISE.name]
        result: Tensor = module(latent, condition, torch.tensor([float(timestep)]), torch.tensor([control_scale]))
        return result

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """[B,4,H,W] to [B,3,8H,8W], about [0,1], not clamped."""
        result: Tensor = self.modules[graphs.DECODE.name](latent)
        return result


def load_reference(checkpoint: Path, config: Path | None = None, context: Path | None = None) -> Reference:
    """The reference networks of a checkpoint.

    Raises:
        ExportError: see `export.source.open_source`.
    """
    with torch.no_grad():
        return Reference(open_source(checkpoint, config, context))
