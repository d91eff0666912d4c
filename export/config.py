"""The official YAML config. In: a file. Out: `ModelConfig`: head width, schedule, scale factor, and the architecture to
compare with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engines.bundle import Manifest, Schedule
from export.architecture import DEFAULT_NORM_GROUPS, Architecture, RrdbArchitecture, UNetArchitecture, VaeArchitecture
from export.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What a config says."""

    architecture: Architecture
    schedule: Schedule
    scale_factor: float
    parameterization: str
    """`eps`, or `v` for v-prediction bases."""


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A mapping of the config that names itself in errors."""

    values: dict[str, Any]
    where: str

    def section(self, *names: str) -> _Section:
        found: Any = self.values
        where = self.where
        for name in names:
            where += f".{name}"
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise ConfigError(f"{where} is missing or not a mapping; give the official DoSSR model config")
        return _Section(values=found, where=where)

    def number(self, name: str, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{self.where}.{name} must be a whole number, not {value!r}; correct the config")
        return value

    def real(self, name: str, default: float) -> float:
        value = self.values.get(name, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{self.where}.{name} must be a number, not {value!r}; correct the config") from None

    def numbers(self, name: str) -> tuple[int, ...]:
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
            raise ConfigError(f"{self.where}.{name} must be a list of whole numbers, not {value!r}; correct the config")
        return tuple(value)


def read_config(path: Path) -> ModelConfig:
    """Reads the official YAML layout; nothing in it is instantiated.

    Raises:
        ConfigError: not readable, not YAML, or a field is missing or mistyped.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {path} ({error.strerror}); give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"{path} is not plain YAML ({reason}); give the official DoSSR model config") from error
    top = _Section(values=raw if isinstance(raw, dict) else {}, where=path.name)
    if "model" in top.values and "params" not in top.values:
        top = top.section("model")
    params = top.section("params")
    groups = params.number("norm_groups", DEFAULT_NORM_GROUPS)
    if groups < 1:
        raise ConfigError(f"{params.where}.norm_groups is {groups}, expected at least 1; the official code has 32")
    control = params.section("control_stage_config", "params")
    return ModelConfig(
        architecture=Architecture(
            unet=_unet(params.section("unet_config", "params"), hint=0, groups=groups),
            controlnet=_unet(control, hint=control.number("hint_channels"), groups=groups),
            vae=_vae(params.section("first_stage_config", "params"), groups=groups),
            rrdb=_rrdb(params.section("preprocess_config", "params")),
            text=None,
        ),
        schedule=Schedule(
            beta_start=params.real("linear_start", Schedule.beta_start),
            beta_end=params.real("linear_end", Schedule.beta_end),
            train_timesteps=params.number("timesteps", Schedule.train_timesteps),
        ),
        scale_factor=params.real("scale_factor", Manifest.scale_factor),
        parameterization=str(params.values.get("parameterization", "eps")),
    )


def _unet(params: _Section, hint: int, groups: int) -> UNetArchitecture:
    resolutions = params.numbers("attention_resolutions")
    multipliers = params.numbers("channel_mult")
    head_width = params.number("num_head_channels")
    if head_width < 1:
        raise ConfigError(
            f"{params.where}.num_head_channels is {head_width}, expected the width of a head as in Stable Diffusion 2; "
            "other bases are not supported"
        )
    return UNetArchitecture(
        in_channels=params.number("in_channels") + hint,
        out_channels=params.number("out_channels", 0),
        channels=tuple(params.number("model_channels") * m for m in multipliers),
        res_blocks=params.number("num_res_blocks"),
        attention=tuple(2**level in resolutions for level in range(len(multipliers))),
        context_width=params.number("context_dim"),
        depth=params.number("transformer_depth", 1),
        linear_projection=bool(params.values.get("use_linear_in_transformer", False)),
        head_width=head_width,
        norm_groups=groups,
    )


def _vae(params: _Section, groups: int) -> VaeArchitecture:
    ddconfig = params.section("ddconfig")
    return VaeArchitecture(
        channels=tuple(ddconfig.number("ch") * m for m in ddconfig.numbers("ch_mult")),
        res_blocks=ddconfig.number("num_res_blocks"),
        z_channels=ddconfig.number("z_channels"),
        embed_channels=params.number("embed_dim"),
        norm_groups=groups,
    )


def _rrdb(params: _Section) -> RrdbArchitecture:
    if (scale := params.number("scale", 4)) != 4:
        raise ConfigError(f"{params.where}.scale is {scale}, expected 4; give a checkpoint with an x4 RRDBNet")
    return RrdbArchitecture(
        features=params.number("num_feat", 64),
        blocks=params.number("num_block", 23),
        growth=params.number("num_grow_ch", 32),
    )
