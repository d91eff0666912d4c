"""The loop that every stage runs in. In: a `Task`, its `Stage`, a folder. Out: averaged weights in a file.

A run can be stopped at any moment and continued: its state is written atomically, sample i is the same whenever it is
drawn, and a finished stage is passed over.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Subset

from engines.files import atomic_path
from training.config import Stage
from training.plots import plot_losses

_LOG_STEPS = 50
_LAST_RATE = 0.05
SAVE_SECONDS = 600.0

Batch = tuple[Tensor, Tensor]
Say = Callable[[str], None]


class Task(Protocol):
    """What a stage trains, and how it takes a step."""

    network: nn.Module
    """Whose running average the stage gives."""
    judges: nn.ModuleList
    """Networks that learn beside it and are dropped at the end."""
    optimizers: list[torch.optim.Optimizer]

    def step(self, batch: Batch) -> Mapping[str, Tensor]:
        """One step of every optimizer on the samples of a batch. Gives losses to log, scalars."""

    def picture(self, network: nn.Module) -> Tensor:
        """Something to look at [3,H,W], made with the averaged network."""


def adam(network: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """AdamW over what is trained of a network, with the stage's rate."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return torch.optim.AdamW(weights, lr=stage.learning_rate, betas=(0.9, 0.999), weight_decay=1e-4)


def average_weights(decay: float) -> Any:
    """How a running average takes up new weights: early on it forgets faster, so that it is not its own start."""

    def update(averaged: Any, current: Any, count: Any) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - kept)

    return update


def rate(stage: Stage, step: int) -> float:
    """The learning rate of a step, relative: up over the warm-up, down by half a cosine at the end."""
    rising = min(1.0, (step + 1) / stage.warm_up)
    left = (stage.steps - step) / max(1.0, stage.decay * stage.steps)
    falling = _LAST_RATE + (1 - _LAST_RATE) * (1 - math.cos(math.pi * min(1.0, left))) / 2
    return rising * falling


def train(
    task: Task,
    stage: Stage,
    samples: Dataset[Batch],
    folder: Path,
    *,
    seed: int,
    workers: int = 0,
    save_seconds: float = SAVE_SECONDS,
    say: Say = print,
) -> None:
    """Runs a stage to its end, from where an earlier run was stopped.

    Args:
        task: what learns; its network gets the averaged weights at the end.
        stage: steps, batch, learning rate.
        samples: at least steps * batch of them.
        folder: gets `state.pt` (to go on from), `log.jsonl`, `picture.png`, `loss.png` and, when done,
            `weights.safetensors`.
        seed: of the noise drawn while training.
        workers: processes that prepare samples; 0: this one.
        save_seconds: how often the state is written.
        say: hears a line of progress.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    if weights.exists():
        task.network.load_state_dict(safetensors.torch.load_file(weights))
        return
    average = AveragedModel(task.network, multi_avg_fn=average_weights(stage.average))
    state = folder / "state.pt"
    begin = _resume(task, average, state)
    torch.manual_seed(seed + begin)
    loader = DataLoader(
        Subset(samples, range(begin * stage.batch, stage.steps * stage.batch)),
        batch_size=stage.batch,
        num_workers=workers,
        persistent_workers=False,
        prefetch_factor=4 if workers else None,
    )
    started = saved = time.monotonic()
    sums: dict[str, Tensor] = {}
    summed = 0
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        for step, batch in enumerate(loader, start=begin):
            for optimizer in task.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group.setdefault("full_rate", group["lr"]) * rate(stage, step)
            losses = task.step(batch)
            average.update_parameters(task.network)
            sums = {name: sums.get(name, 0) + value.detach() for name, value in losses.items()}
            summed += 1
            if (step + 1) % _LOG_STEPS == 0:
                means = {name: round(float(total) / summed, 5) for name, total in sums.items()}
                sums, summed = {}, 0
                seconds = (time.monotonic() - started) / (step + 1 - begin)
                log.write(json.dumps({"step": step + 1, "seconds_a_step": round(seconds, 4), **means}) + "\n")
                log.flush()
                told = ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
                say(f"{folder.name} {step + 1}/{stage.steps}: {told} ({seconds:.2f} s a step)")
            if time.monotonic() - saved > save_seconds:
                _save(task, average, state, step + 1)
                _look(task, average.module, folder)
                saved = time.monotonic()
    _look(task, average.module, folder)
    task.network.load_state_dict(average.module.state_dict())
    with atomic_path(weights) as path:
        safetensors.torch.save_file({k: v.contiguous() for k, v in task.network.state_dict().items()}, path)
    state.unlink(missing_ok=True)
    plot_losses(folder)


def _resume(task: Task, average: AveragedModel, path: Path) -> int:
    """Takes up a stopped run's state; the step to go on with."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    task.network.load_state_dict(state["network"])
    task.judges.load_state_dict(state["judges"])
    average.load_state_dict(state["average"])
    for optimizer, stored in zip(task.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(stored)
    return int(state["step"])


def _save(task: Task, average: AveragedModel, path: Path, step: int) -> None:
    state = {
        "step": step,
        "network": task.network.state_dict(),
        "judges": task.judges.state_dict(),
        "average": average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in task.optimizers],
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _look(task: Task, network: nn.Module, folder: Path) -> None:
    with torch.no_grad():
        image = task.picture(network).float().clamp(0, 1).mul(255).round().byte().cpu().permute(1, 2, 0)
    with atomic_path(folder / "picture.png") as path:
        Image.fromarray(np.ascontiguousarray(image.numpy())).save(path, "PNG")
