"""All that an export takes, opened and checked before any work. In: paths and settings. Out: a `Source`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from engines.bundle import Manifest, Schedule
from export import checkpoint as official
from export.architecture import DEFAULT_HEAD_WIDTH, DEFAULT_NORM_GROUPS, Architecture, check_same, read_architecture
from export.checkpoint import Checkpoint, open_checkpoint, some
from export.config import read_config
from export.context import check_text_tower, compute_context, read_context
from export.conversion import check_shape
from export.errors import CheckpointKeysError, ConfigError
from export.modules import all_needed_keys, encoders_equal
from export.schedule import check_schedule

_SCALE_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint whose every key is accounted for, and what belongs to it."""

    checkpoint: Checkpoint
    architecture: Architecture
    schedule: Schedule
    scale_factor: float
    given_context: Tensor | None
    """The prompt's embedding [1,77,D] float32 from a file; None: the text encoder makes it."""
    separate_condition: bool
    """Whether the condition's encoder differs from the autoencoder's."""
    ignored: Mapping[str, int]
    """Keys of the checkpoint that no graph takes: reason to count."""

    @property
    def text_parameters(self) -> int:
        """Of the text encoder."""
        shapes = self.checkpoint.shapes
        return sum(math.prod(shape) for key, shape in shapes.items() if key.startswith(official.TEXT))

    @functools.cached_property
    def context(self) -> Tensor:
        """The prompt's embedding [1,77,D] float32; the text encoder runs when it is first asked for."""
        if self.given_context is not None:
            return self.given_context
        context = compute_context(self.checkpoint, self.architecture)
        self.checkpoint.release()
        return context


def open_source(
    checkpoint_path: Path,
    config_path: Path | None,
    context_path: Path | None,
    *,
    t1: int | None = None,
    prediction: str = Manifest.prediction,
) -> Source:
    """Opens and checks everything; the text tower is checked here where no context is given.

    Raises:
        CheckpointNotFoundError, CheckpointCorruptError, UnsafeCheckpointError, CheckpointKeysError: the checkpoint.
        ConfigError: the config, or an option against config and weights.
        ContextError: the prompt's embedding.
    """
    checkpoint = open_checkpoint(checkpoint_path)
    config = None if config_path is None else read_config(config_path)
    unseen = (DEFAULT_HEAD_WIDTH, DEFAULT_NORM_GROUPS)
    if config is not None:
        unseen = config.architecture.unet.head_width, config.architecture.unet.norm_groups
    architecture = read_architecture(checkpoint.shapes, *unseen, with_text=context_path is None)
    schedule, scale_factor = Schedule(), Manifest.scale_factor
    if config is not None:
        check_same(config.architecture, architecture)
        schedule, scale_factor = config.schedule, config.scale_factor
        if config.parameterization not in ("eps", "v"):
            raise ConfigError(
                f"the config says parameterization {config.parameterization}, expected eps or v; give a config of those"
            )
        if config.parameterization == "v" and prediction != "v":
            raise ConfigError(f"the config says parameterization v, --prediction is {prediction}; give --prediction v")
    ignored = _check_keys(checkpoint, architecture)
    if "scale_factor" in checkpoint.keys:
        found = float(checkpoint.tensor("scale_factor").mean())
        if abs(found - scale_factor) > _SCALE_TOLERANCE:
            raise ConfigError(
                f"the checkpoint's scale_factor is {found:.5f}, the config's {scale_factor}; correct the config"
            )
    width = architecture.unet.context_width
    schedule = check_schedule(checkpoint, schedule, t1)
    if context_path is None:
        check_text_tower(checkpoint, architecture)
    separate_condition = not encoders_equal(checkpoint)
    checkpoint.release()
    return Source(
        checkpoint=checkpoint,
        architecture=architecture,
        schedule=schedule,
        scale_factor=scale_factor,
        given_context=None if context_path is None else read_context(context_path, width),
        separate_condition=separate_condition,
        ignored=ignored,
    )


def _check_keys(checkpoint: Checkpoint, arch: Architecture) -> dict[str, int]:
    """Every key is read by a network, in its shape, or ignored for a reason; how many are, by reason."""
    needed = {key: shape for keys in all_needed_keys(arch, arch.text).values() for key, shape in keys.items()}
    if missing := needed.keys() - checkpoint.keys.keys():
        raise CheckpointKeysError(
            f"{checkpoint.path.name} lacks {len(missing)} keys ({some(missing)}); give a complete DoSSR checkpoint and "
            "the --config that belongs to it"
        )
    shapes = checkpoint.shapes
    for key, shape in needed.items():
        check_shape(key, shapes[key], shape)
    if arch.text is None:
        unused = {"cond_stage_model.": "text encoder; --context takes its place"}
    else:
        last = f"{official.TEXT}transformer.resblocks.{arch.text.layers - 1}."
        unused = {last: "last block of the text encoder; the embedding is taken before it"}
    return checkpoint.check_all_used(needed, unused)
