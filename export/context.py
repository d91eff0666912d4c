"""The prompt's embedding. In: a context file, or the checkpoint's text tower. Out: [1,77,D] float32."""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
from torch import Tensor

from export import checkpoint as official
from export.architecture import Architecture, TextArchitecture
from export.checkpoint import Checkpoint
from export.errors import ContextError
from export.modules import load_text_tower
from export.text_tower import prompt_tokens

KEY = "positive"
POSITIONS = 77


def read_context(path: Path, width: int) -> Tensor:
    """`positive` [77,width] from a safetensors file, as [1,77,width].

    Raises:
        ContextError: no such file, no such key, another shape, or not finite.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            if KEY not in file.keys():  # noqa: SIM118, safe_open is no mapping
                raise ContextError(
                    f"{path} holds {official.some(file.keys()) or 'nothing'}, expected the key {KEY!r}; "
                    f"write the prompt's embedding [{POSITIONS},{width}] under it"
                )
            context: Tensor = file.get_tensor(KEY).float()
    except (safetensors.SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ContextError(f"cannot read the context {path} ({reason}); give a safetensors file") from error
    if context.shape != (POSITIONS, width):
        raise ContextError(
            f"{KEY!r} in {path} has shape {list(context.shape)}, expected [{POSITIONS}, {width}]; "
            "compute it with the text encoder that the checkpoint was trained with"
        )
    if not torch.isfinite(context).all():
        raise ContextError(f"{KEY!r} in {path} holds NaN or infinity, expected finite numbers; compute it again")
    return context[None]


def check_text_tower(checkpoint: Checkpoint, arch: Architecture) -> TextArchitecture:
    """The checkpoint's text tower, where it can make the embedding.

    Raises:
        ContextError: the checkpoint has no text tower, or one of another form.
    """
    if arch.text is None:
        raise ContextError(
            f"{checkpoint.path.name} has no text encoder (cond_stage_model.*), expected one or --context; give the "
            f"prompt's embedding as --context FILE.safetensors (key {KEY!r})"
        )
    tokens = prompt_tokens(POSITIONS)
    if arch.text.positions != POSITIONS or arch.text.vocabulary <= int(tokens.max()):
        raise ContextError(
            f"the text encoder has {arch.text.positions} positions and {arch.text.vocabulary} words, expected "
            f"{POSITIONS} and CLIP's 49408; give the prompt's embedding with --context"
        )
    if arch.text.width != arch.unet.context_width:
        raise ContextError(
            f"the text encoder is {arch.text.width} wide, the UNet expects {arch.unet.context_width}; give the "
            "prompt's embedding with --context"
        )
    return arch.text


def compute_context(checkpoint: Checkpoint, arch: Architecture) -> Tensor:
    """The default prompt through the checkpoint's text tower, [1,77,D].

    Raises:
        ContextError: see `check_text_tower`.
    """
    text = check_text_tower(checkpoint, arch)
    tokens = prompt_tokens(POSITIONS)
    with torch.inference_mode():
        context: Tensor = load_text_tower(checkpoint, text)(tokens)
    return context.clone()
