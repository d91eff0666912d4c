"""Opens checkpoints lazily and without executing anything. In: a .ckpt or .safetensors file. Out: a `Checkpoint`.

The official layout keeps each network under a prefix; `Checkpoint.section` reads one of them at a time, and
`Checkpoint.release` takes what was read out of memory. Weights of any floating type come out as float32; those that are
stored so are the file's own mapped pages.
"""

from __future__ import annotations

import itertools
import json
import pickle
import textwrap
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors
import torch
from torch import Tensor

from export.errors import (
    CheckpointCorruptError,
    CheckpointKeysError,
    CheckpointNotFoundError,
    UnsafeCheckpointError,
)
from export.mapped import MappedFile, Place, safetensors_places, torch_places
from export.quiet import quietly

UNET = "model.diffusion_model."
CONTROLNET = "control_model."
VAE = "first_stage_model."
CONDITION_ENCODER = "cond_encoder."
PREPROCESS = "preprocess_model."
TEXT = "cond_stage_model.model."

IGNORED = {
    "lambdas": "schedule table (it holds eta); compared, then computed anew",
    "one_minus_lambdas": "schedule table",
    "betas": "schedule table; compared, then computed anew",
    "alphas_cumprod": "schedule table",
    "alphas_cumprod_prev": "schedule table",
    "sqrt_alphas_cumprod": "schedule table",
    "sqrt_one_minus_alphas_cumprod": "schedule table",
    "log_one_minus_alphas_cumprod": "schedule table",
    "sqrt_recip_alphas_cumprod": "schedule table",
    "sqrt_recipm1_alphas_cumprod": "schedule table",
    "posterior_variance": "schedule table",
    "posterior_log_variance_clipped": "schedule table",
    "posterior_mean_coef1": "schedule table",
    "posterior_mean_coef2": "schedule table",
    "logvar": "weighting of the training loss",
    "lvlb_weights": "weighting of the training loss",
    "scale_factor": "scale of the latent; compared with the config's",
    f"{TEXT}logit_scale": "contrastive training only",
    f"{TEXT}text_projection": "contrastive training only",
    f"{TEXT}attn_mask": "the causal mask, computed anew",
}
"""Keys that no graph takes, with the reason."""
IGNORED_PREFIXES = {
    "model_ema.": "running average of the weights; the reference restores with the weights themselves",
    f"{VAE}loss.": "training loss",
    f"{TEXT}visual.": "the image half of CLIP",
    "lpips.": "training loss",
}
"""Prefixes of keys that no graph takes, with the reason."""


class TensorSource(Protocol):
    """Tensors by key, read when asked for."""

    shapes: dict[str, tuple[int, ...]]

    def read(self, key: str) -> Tensor:
        """The tensor of that key, as stored."""

    def release(self) -> None:
        """Takes the pages that were read out of memory; tensors stay valid."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened checkpoint: every key with its shape at hand, values read on request."""

    path: Path
    source: TensorSource
    keys: Mapping[str, str]
    """Official key to the key in the file (which may begin with "module.")."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Official key to shape."""
        return {key: self.source.shapes[stored] for key, stored in self.keys.items()}

    def tensor(self, key: str) -> Tensor:
        """One tensor, float32."""
        try:
            return self.source.read(self.keys[key]).float()
        except (safetensors.SafetensorError, RuntimeError, OSError) as error:
            raise _corrupt(self.path, error) from error

    def release(self) -> None:
        """Takes what was read of the file out of this process's memory; tensors stay valid and are read again."""
        self.source.release()

    def section(self, prefix: str) -> dict[str, Tensor]:
        """Every tensor under the prefix, keys without it, float32."""
        return {key.removeprefix(prefix): self.tensor(key) for key in self.keys if key.startswith(prefix)}

    def check_all_used(self, used: Iterable[str], also_ignored: Mapping[str, str]) -> dict[str, int]:
        """Refuses keys that neither a graph takes nor `IGNORED` or a prefix names.

        Args:
            used: keys that some network reads.
            also_ignored: further prefixes, with the reason.

        Returns:
            How many keys were ignored, by reason.

        Raises:
            CheckpointKeysError: names up to three of them.
        """
        prefixes = {**IGNORED_PREFIXES, **also_ignored}
        ignored: Counter[str] = Counter()
        left = []
        for key in self.keys.keys() - set(used):
            reason = IGNORED.get(key) or next((why for prefix, why in prefixes.items() if key.startswith(prefix)), None)
            if reason is None:
                left.append(key)
            else:
                ignored[reason] += 1
        if left:
            raise CheckpointKeysError(
                f"{self.path.name} holds {len(left)} keys that no part of DoSSR takes ({some(left)}); give the "
                "--config that belongs to it, or remove them if they are not part of the model"
            )
        return dict(sorted(ignored.items()))


def open_checkpoint(path: Path) -> Checkpoint:
    """Opens a checkpoint in the official layout; `{"state_dict": ...}` and `module.` wrappers are taken off.

    Raises:
        CheckpointNotFoundError: there is no file.
        CheckpointCorruptError: truncated, or not a checkpoint.
        UnsafeCheckpointError: reading it would execute code.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointNotFoundError(
            f"cannot read a checkpoint at {path} ({error.strerror}); give the path of a .ckpt or .safetensors file"
        ) from error
    is_safetensors = path.suffix == ".safetensors" or head[8:9] == b"{"
    source: TensorSource = _SafetensorsSource(path) if is_safetensors else _TorchSource(path, head)
    keys: dict[str, str] = {}
    for stored in source.shapes:
        key = stored
        while key.startswith("module."):
            key = key.removeprefix("module.")
        if key in keys:
            raise CheckpointKeysError(
                f"{path.name} holds {key} twice ({keys[key]} and {stored}); remove one of the two copies"
            )
        keys[key] = stored
    return Checkpoint(path=path, source=source, keys=keys)


def some(keys: Iterable[str]) -> str:
    """Up to three of the keys, for an error."""
    names = sorted(keys)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


class _SafetensorsSource:
    def __init__(self, path: Path) -> None:
        try:
            opened: Any = safetensors.safe_open(path, framework="pt")
            self._file = opened
            keys = list(self._file.keys())
            self.shapes: dict[str, tuple[int, ...]] = {k: tuple(self._file.get_slice(k).get_shape()) for k in keys}
            self._mapped = _mapped(path, safetensors_places(path))
        except (safetensors.SafetensorError, OSError, json.JSONDecodeError) as error:
            raise _corrupt(path, error) from error
        if not self.shapes:
            raise CheckpointCorruptError(f"{path} holds no tensors; give a DoSSR checkpoint")

    def read(self, key: str) -> Tensor:
        if self._mapped is not None:
            return self._mapped.read(key)
        tensor: Tensor = self._file.get_tensor(key)
        return tensor

    def release(self) -> None:
        if self._mapped is not None:
            self._mapped.release()


class _TorchSource:
    def __init__(self, path: Path, head: bytes) -> None:
        zipped = head[:4] == b"PK\x03\x04"  # torch before 1.6 wrote a bare pickle, which cannot be mapped
        if not zipped and head[:1] != b"\x80":
            raise CheckpointCorruptError(
                f"{path} is neither a torch checkpoint nor safetensors (it begins with {head[:4]!r}); "
                "download it again, or give another file"
            )
        self._tensors = _tensors(path, _unpickled(path, "meta" if zipped else "cpu"))
        self._mapped = None
        if zipped:
            try:
                self._mapped = _mapped(path, torch_places(path, self._tensors))
            except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
                raise _corrupt(path, error) from error
            if self._mapped is None:
                self._tensors = _tensors(path, _unpickled(path, "cpu"))
        self.shapes: dict[str, tuple[int, ...]] = {key: tuple(tensor.shape) for key, tensor in self._tensors.items()}

    def read(self, key: str) -> Tensor:
        return self._tensors[key] if self._mapped is None else self._mapped.read(key)

    def release(self) -> None:
        if self._mapped is not None:
            self._mapped.release()


class _Mapped:
    def __init__(self, path: Path, places: Mapping[str, Place]) -> None:
        self._file = MappedFile(path)
        self._places = places
        if any(place.offset + place.nbytes > len(self._file) for place in places.values()):
            raise OSError("the file ends before its weights do")

    def read(self, key: str) -> Tensor:
        return self._file.tensor(self._places[key])

    def release(self) -> None:
        self._file.release()


def _mapped(path: Path, places: Mapping[str, Place] | None) -> _Mapped | None:
    return None if places is None else _Mapped(path, places)


def _unpickled(path: Path, device: str) -> object:
    """What the pickle holds; on the meta device, without reading weights."""
    try:
        with quietly():
            loaded: object = torch.load(path, map_location=device, weights_only=True)
            return loaded
    except pickle.UnpicklingError as error:
        if "truncated" in str(error) or "Ran out of input" in str(error):
            raise _corrupt(path, error) from error
        raise UnsafeCheckpointError(
            f"{path} holds {_refused(error)}, expected tensors only, and reading it could execute code; "
            "re-save it as safetensors where you trust it"
        ) from error
    except Exception as error:  # torch lets through whatever damaged bytes provoke
        raise _corrupt(path, error) from error


def _tensors(path: Path, loaded: object) -> dict[str, Tensor]:
    """The state dict, wherever it is wrapped."""
    wrapped = False
    while isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded, wrapped = loaded["state_dict"], True
    entries = loaded if isinstance(loaded, Mapping) else {}
    tensors = {str(k): v for k, v in entries.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointCorruptError(f"{path} holds no tensors under string keys; give a DoSSR checkpoint")
    others = [str(k) for k, v in entries.items() if not isinstance(v, Tensor)]
    if others and (wrapped or any("." in name for name in others)):
        raise CheckpointKeysError(
            f"{path.name} holds {len(others)} weights that are not tensors ({some(others)}); remove them"
        )
    return tensors


def _corrupt(path: Path, error: Exception) -> CheckpointCorruptError:
    reason = textwrap.shorten(str(error), 120, placeholder=" ...") or type(error).__name__
    return CheckpointCorruptError(f"{path} is truncated or damaged ({reason}); download or copy it again")


def _refused(error: Exception) -> str:
    """What the restricted unpickler stopped at."""
    words = str(error).replace("`", " ").split()
    for before, word in itertools.pairwise(words):
        if before in ("GLOBAL", "global:") or (before == "Unsupported" and word not in ("global:", "operand")):
            return f"the object {word.strip('.,')}"
    return "objects other than tensors"
