"""`python -m training.demo`: trains the demo model, stage after stage. In: settings. Out: a checkpoint folder."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from engines.bundle import Schedule
from engines.cli import Parser, run_command
from engines.errors import SettingsError
from engines.files import atomic_path
from training.checkpoint import save_checkpoint
from training.config import Demo, Stage
from training.data import Pairs
from training.latents import LatentEncoder, StoredLatents, measure_scale, store_latents
from training.loop import Batch, Task, train
from training.networks import Denoiser, create_rrdbnet, create_vae
from training.objective import DomainShift
from training.tasks import Autoencode, Denoise, Enlarge, Sharpen

_LOOK = 1_000_000_007
"""The stage number of the samples that are looked at and measured: none of the training's."""
_LOOKED_AT = 4
_SCALE_SAMPLES = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """The recipe, and where and how it runs."""

    demo: Demo
    folder: Path
    device: torch.device
    workers: int
    say: Callable[[str], None] = print

    def rrdbnet(self) -> nn.Module:
        """RRDBNet."""
        stage = self.demo.rrdbnet
        task = Enlarge(create_rrdbnet(self.demo.architecture), stage, self._look(stage.crop), self.demo.losses)
        self._train("rrdbnet", task, stage, degraded=True)
        return task.network

    def vae(self) -> nn.Module:
        """Encoder and decoder."""
        stage = self.demo.vae
        task = Autoencode(create_vae(self.demo.architecture), stage, self._look(2 * stage.crop), self.demo.losses)
        self._train("vae", task, stage, degraded=False)
        return task.network

    def decoder(self) -> nn.Module:
        """The autoencoder again, its decoder sharpened."""
        stage = self.demo.decoder
        task = Sharpen(self.vae(), stage, self._look(2 * stage.crop), self.demo.losses)
        self._train("decoder", task, stage, degraded=False)
        return task.network

    def unet(self) -> Denoiser:
        """The UNet alone, on originals."""
        return self._denoiser("unet", Denoiser(self.demo.architecture), self.demo.unet, controlled=False)

    def domain_shift(self) -> Denoiser:
        """UNet and ControlNet on the domain shift."""
        network = self.unet()
        network.start_control()
        return self._denoiser("domain_shift", network, self.demo.domain_shift, controlled=True)

    def checkpoint(self) -> None:
        """Everything, as `checkpoint/` in the official layout."""
        save_checkpoint(
            self.folder / "checkpoint",
            self.demo.architecture,
            rrdbnet=self.rrdbnet(),
            vae=self.decoder(),
            denoiser=self.domain_shift(),
            scale_factor=self.scale_factor(),
        )
        self.say(f"wrote {self.folder / 'checkpoint'}")

    def scale_factor(self) -> float:
        """Makes the latents' standard deviation one; measured once, when the encoder is trained."""
        path = self.folder / "scale_factor.json"
        if not path.exists():
            pairs = Pairs(
                seed=self.demo.seed, stage=_LOOK, length=_SCALE_SAMPLES, side=self.demo.unet.crop, degraded=False
            )
            images = torch.stack([pairs[index][0] for index in range(_SCALE_SAMPLES)]).to(self.device)
            scale = measure_scale(self.vae(), images)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps({"scale_factor": scale}), encoding="utf-8")
        return float(json.loads(path.read_text(encoding="utf-8"))["scale_factor"])

    def _denoiser(self, name: str, network: Denoiser, stage: Stage, *, controlled: bool) -> Denoiser:
        demo = self.demo
        encode = LatentEncoder(self.rrdbnet(), self.vae(), self.scale_factor(), self.device)
        task = Denoise(
            network,
            stage,
            self._look(stage.crop),
            encode=encode,
            shift=DomainShift.of(Schedule(t1=demo.t1), self.device),
            timesteps=demo.timesteps,
            controlled=controlled,
        )
        if not demo.latent_pairs:
            self._train(name, task, stage, degraded=True)
            return network
        pairs = self._pairs("latents", demo.latent_pairs, stage.crop, degraded=True)
        moments = store_latents(encode, pairs, self.folder / "latents.safetensors", self.device, self.say)
        task.look, task.encode = encode(task.look), lambda batch: batch
        self._train_on(name, task, stage, StoredLatents(moments, stage.steps * stage.batch))
        return network

    def _train(self, name: str, task: Task, stage: Stage, *, degraded: bool) -> None:
        self._train_on(name, task, stage, self._pairs(name, stage.steps * stage.batch, stage.crop, degraded=degraded))

    def _train_on(self, name: str, task: Task, stage: Stage, samples: Dataset[Batch]) -> None:
        seed = self.demo.seed + STAGES.index(name)
        train(task, stage, samples, self.folder / name, seed=seed, workers=self.workers, say=self.say)

    def _pairs(self, name: str, length: int, side: int, *, degraded: bool) -> Pairs:
        number = (*STAGES, "latents").index(name)
        return Pairs(seed=self.demo.seed, stage=number, length=length, side=side, degraded=degraded)

    def _look(self, side: int) -> tuple[Tensor, Tensor]:
        pairs = Pairs(seed=self.demo.seed, stage=_LOOK, length=_LOOKED_AT, side=side, degraded=True)
        samples = [pairs[index] for index in range(_LOOKED_AT)]
        original, low = (torch.stack([sample[side] for sample in samples]).to(self.device) for side in range(2))
        return original, low


STAGES = ("rrdbnet", "vae", "decoder", "unet", "domain_shift", "checkpoint")
"""In order; each makes what it needs of those before it, unless it is there."""


def main(arguments: Sequence[str]) -> int:
    """Parses and runs."""
    options = parser().parse_args(arguments)
    demo = recipe(options)
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(demo.seed)
    run = Run(
        demo=demo,
        folder=options.out,
        device=torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu")),
        workers=options.workers,
        say=lambda line: print(line, flush=True),
    )
    for stage in options.stages or ("checkpoint",):
        getattr(run, stage)()
    return 0


def parser() -> Parser:
    """The command line's options."""
    p = Parser(prog="python -m training.demo", description="Trains the demo model; stopped, it goes on.")
    p.add_argument("--out", type=Path, required=True, help="folder of the stages and of the checkpoint")
    p.add_argument("--stages", nargs="+", choices=STAGES, help="only these, and what they need (default: all)")
    p.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    p.add_argument("--workers", type=int, default=0, help="processes that prepare pictures (default: 0)")
    p.add_argument("--seed", type=int, default=Demo.seed)
    p.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="STAGE.FIELD=VALUE",
        help="steps, batch, crop, learning_rate, warm_up of a stage, e.g. vae.steps=3000 unet.batch=64",
    )
    p.add_argument("--timesteps", type=int, default=Demo.timesteps, help="train on t below this (default: 1000)")
    p.add_argument(
        "--latent-pairs",
        type=int,
        default=Demo.latent_pairs,
        help="compute so many latents once instead of new ones for every step; for two cores (default: 0, all new)",
    )
    return p


def recipe(options: argparse.Namespace) -> Demo:
    """What the options ask for.

    Raises:
        SettingsError: an option is out of range.
    """
    demo = Demo(seed=options.seed, timesteps=options.timesteps, latent_pairs=options.latent_pairs)
    for text in options.set:
        demo = _changed(demo, text)
    if not 1 <= options.timesteps <= Schedule.train_timesteps:
        raise SettingsError(f"--timesteps is {options.timesteps}, expected 1 to {Schedule.train_timesteps}")
    if options.latent_pairs < 0 or options.workers < 0:
        raise SettingsError("--latent-pairs and --workers are counts, expected 0 or more")
    return demo


def _changed(demo: Demo, text: str) -> Demo:
    """The recipe with one field of one stage set."""
    place, _, value = text.partition("=")
    name, _, field = place.partition(".")
    stage = getattr(demo, name, None)
    kind = float if field == "learning_rate" else int
    fields = ("steps", "batch", "crop", "learning_rate", "warm_up")
    try:
        number = kind(value)
    except ValueError:
        number = 0
    if not isinstance(stage, Stage) or field not in fields or not number > 0:
        raise SettingsError(
            f"--set {text!r}: expected STAGE.FIELD=VALUE, a stage of {', '.join(STAGES[:-1])}, a field of "
            f"{', '.join(fields)}, and a value above 0"
        )
    if field == "crop" and number % 64:
        raise SettingsError(f"--set {text!r}: a crop is a multiple of 64 pixels, so that every level divides it")
    changed: Any = {field: number}
    set_stage: Any = {name: dataclasses.replace(stage, **changed)}
    return dataclasses.replace(demo, **set_stage)


if __name__ == "__main__":
    sys.exit(run_command(main))
