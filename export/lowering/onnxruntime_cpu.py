"""A graph rewritten for ONNX Runtime's CPU provider. In: a canonical `model.onnx`. Out:
`model.onnxruntime-cpu.onnx` on the same weights. What each rewrite gains: docs/measurements.
"""

from __future__ import annotations

from pathlib import Path

from export.lowering.attention import fuse_attention
from export.lowering.editor import write_form
from export.lowering.group_norm import split_group_norm
from export.lowering.upsample import split_upsampling
from export.lowering.widen import widen

BACKEND = "onnxruntime-cpu"
LOWERED = f"model.{BACKEND}.onnx"
REWRITES = (widen, fuse_attention, split_group_norm, split_upsampling)
"""In this order."""


def lower(model_path: Path) -> Path | None:
    """Writes the lowered file beside the canonical one; None where there is nothing to rewrite.

    Raises:
        ExportError: an Attention node has a form that is not known here.
    """
    return write_form(model_path, BACKEND, REWRITES)
