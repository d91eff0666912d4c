"""A full-size checkpoint with random weights in the official layout. In: the shapes of the real one. Out: a .ckpt file.

    python benchmarks/synthetic_checkpoint.py full/model.ckpt [--shapes full_checkpoint_shapes.json] [--seed 1]

1,717.6 M float32 numbers, 6.9 GB, text tower and schedule tables included. The weights are scaled so that activations
stay of order one through every network, in fp16 too; the once zero convolutions are not zero, so that the ControlNet
counts. The file is laid out first and then filled in place: no more than one tensor is in memory.
"""

import argparse
import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from engines.bundle import Schedule
from export.checkpoint import CONDITION_ENCODER, PREPROCESS, TEXT, UNET, VAE
from export.schedule import RELEASED_T1, beta_table, eta_table

SHAPES = Path(os.environ.get("DOSSR_GOLDEN", "../shared/golden")) / "full_checkpoint_shapes.json"
RESIDUAL = 0.3
"""Gain of what closes a residual branch: some fifty of them are added up."""
LATENT_STD = 5.0
"""Of the posterior's mean, as in Stable Diffusion, whose scale factor is 1/5.5."""
LOG_VARIANCE, LOG_VARIANCE_STD = -3.0, 1.0
RESIDUAL_ENDS = (
    "out_layers.3.weight",
    "proj_out.weight",
    "to_out.0.weight",
    "ff.net.2.weight",
    "conv2.weight",
    "attn.out_proj.weight",
    "mlp.c_proj.weight",
)
GAINS = {
    f"{VAE}quant_conv.weight": LATENT_STD,
    f"{VAE}decoder.conv_out.weight": 0.5,
    f"{PREPROCESS}conv_last.weight": 0.2,
    f"{UNET}out.2.weight": 1.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a full-size checkpoint with random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--shapes", type=Path, default=SHAPES, help="JSON: key to shape (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    shapes: dict[str, list[int]] = json.loads(args.shapes.read_text())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with torch.serialization.skip_data():
        torch.save({key: torch.empty(shape) for key, shape in shapes.items()}, args.out)
    torch.serialization.set_default_mmap_options(torch.serialization.MAP_SHARED)
    tensors = torch.load(args.out, mmap=True, weights_only=True)
    generator = torch.Generator().manual_seed(args.seed)
    tables = schedule_tables()
    for key, tensor in tensors.items():
        if key in tables:
            tensor.copy_(tables[key])
        else:
            fill(key, tensor, generator)
    for key, tensor in tensors.items():
        if key.startswith(CONDITION_ENCODER):  # as released: a copy of the autoencoder's
            tensor.copy_(tensors[VAE + key.removeprefix(CONDITION_ENCODER)])
    numbers = sum(tensor.numel() for tensor in tensors.values())
    print(f"{args.out}: {len(tensors)} tensors, {numbers / 1e6:.1f} M numbers, {args.out.stat().st_size / 1e9:.2f} GB")


def fill(key: str, tensor: Tensor, generator: torch.Generator) -> None:
    """Normal weights with standard deviation gain / sqrt(inputs); gains of normalisations about 1."""
    if tensor.ndim < 2:
        tensor.normal_(0.0, 0.05, generator=generator)
        if key.endswith(".weight"):  # a normalisation's
            tensor.add_(1.0)
        elif key == f"{VAE}quant_conv.bias":
            tensor[tensor.numel() // 2 :] += LOG_VARIANCE
        elif key == f"{PREPROCESS}conv_last.bias":
            tensor.add_(0.5)
        elif key == f"{TEXT}logit_scale":
            tensor.fill_(math.log(100.0))
        return
    if "embedding" in key:
        tensor.normal_(0.0, 0.02, generator=generator)
        return
    gain = GAINS.get(key, RESIDUAL if key.endswith(RESIDUAL_ENDS) or "_convs." in key else 1.0)
    tensor.normal_(0.0, gain / math.sqrt(tensor[0].numel()), generator=generator)
    if key == f"{VAE}quant_conv.weight":
        tensor[tensor.shape[0] // 2 :] *= LOG_VARIANCE_STD / LATENT_STD


def schedule_tables() -> dict[str, Tensor]:
    """The tables that a DDPM keeps beside its weights."""
    betas = beta_table(Schedule())
    alphas_cumprod = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
    etas = eta_table(RELEASED_T1, betas.numel())
    variance = betas * (1 - before) / (1 - alphas_cumprod)
    return {
        "betas": betas,
        "lambdas": etas,
        "one_minus_lambdas": 1 - etas,
        "alphas_cumprod": alphas_cumprod,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": alphas_cumprod.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - alphas_cumprod).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - alphas_cumprod).log(),
        "sqrt_recip_alphas_cumprod": alphas_cumprod.rsqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / alphas_cumprod - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp_min(1e-20).log(),
        "logvar": torch.zeros_like(betas),
    }


if __name__ == "__main__":
    main()
