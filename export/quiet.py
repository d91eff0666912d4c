"""Silence for the libraries of an export. In: a block of code. Out: the same, without their logs and warnings."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

_LOGGERS = (
    "torch",
    "torch.onnx",
    "torch.export",
    "onnxscript",
    "onnx_ir",
    "onnx",
    "diffusers",
    "transformers",
)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps warnings and log lines below `ERROR` of torch, onnxscript and diffusers from standard error."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
