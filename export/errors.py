"""The named errors of the exporter. In: what went wrong. Out: one sentence: given, expected, fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engines.errors import DossrError, EngineBuildError

if TYPE_CHECKING:
    from export.figures import Array


class ExportError(DossrError):
    """An export cannot be done or was not accepted."""


class CheckpointNotFoundError(ExportError):
    """There is no checkpoint at the path, or none was named."""


class CheckpointCorruptError(ExportError):
    """The file is truncated, damaged, or not a checkpoint."""


class UnsafeCheckpointError(ExportError):
    """The pickle inside the checkpoint asks for more than tensors; reading it could execute code."""


class CheckpointKeysError(ExportError):
    """Weights are missing, or weights are there that nothing takes."""


class ConfigError(ExportError):
    """The config is unreadable, or the config, an option and the weights contradict each other."""


class ContextError(ExportError):
    """The prompt's embedding is missing or has the wrong form."""


class ExportVerificationError(ExportError):
    """An exported graph's outputs differ from the fp32 torch module's by more than the gate."""


class EngineDepartsError(ExportError):
    """An engine does not compute what its reference computes."""


class OutputBusyError(ExportError):
    """Another export is writing to the same output."""


class PlanDepartsError(EngineBuildError):
    """A plan that was just built does not compute what its graph computes.

    Args:
        message: one sentence.
        graph: which.
        inputs: what showed it, by name, float32.
    """

    def __init__(self, message: str, graph: str, inputs: Mapping[str, Array]) -> None:
        super().__init__(message)
        self.graph, self.inputs = graph, inputs
