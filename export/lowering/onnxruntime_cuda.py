"""A graph rewritten for ONNX Runtime's CUDA provider. In: a canonical `model.onnx`. Out:
`model.onnxruntime-cuda.onnx` on the same weights, on any machine.

Convolutions stay as they are: ONNX Runtime itself puts them channels last when the file is opened (`prefer_nhwc`), and
what is rewritten here is in that layout already, between transposes that then meet their inverses and are gone.
"""

from __future__ import annotations

from pathlib import Path

from export.lowering.attention import fuse_attention
from export.lowering.channels_last import enlarge_channels_last, fuse_group_norm
from export.lowering.editor import write_form
from export.lowering.token_shapes import take_shapes_from_tensors

BACKEND = "onnxruntime-cuda"
LOWERED = f"model.{BACKEND}.onnx"
REWRITES = (enlarge_channels_last, fuse_group_norm, fuse_attention, take_shapes_from_tensors)
"""In this order."""


def lower(model_path: Path) -> Path | None:
    """Writes the lowered file beside the canonical one; None where there is nothing to rewrite.

    Raises:
        ExportError: a node has a form that is not known here.
    """
    return write_form(model_path, BACKEND, REWRITES)
