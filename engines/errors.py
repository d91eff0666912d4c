"""The named errors of every room. In: what went wrong. Out: one sentence that says what was given, what was
expected and what to do.

Command lines print `error: <Name>: <sentence>` and leave with the error's `exit_code`.
"""

from __future__ import annotations


class DossrError(Exception):
    """Base of every error that this toolkit raises on purpose. The text is one line, for a person."""

    exit_code = 1


class SettingsError(DossrError, ValueError):
    """A setting is outside its range or contradicts another one."""

    exit_code = 2


class BundleError(DossrError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """There is no bundle at the path, or no bundle was named."""


class BundleSchemaError(BundleError):
    """The manifest is not readable, lacks a field, or has a schema that this version does not know."""


class BundleHashError(BundleError):
    """A file of the bundle is missing, or differs from the size or sha256 in the manifest."""


class BundlePathError(BundleError):
    """A path in the bundle leads outside its folder."""


class EngineError(DossrError):
    """An engine failed while it was opened or run."""


class EngineUnavailableError(EngineError):
    """The asked engine, provider or device is not installed or not present on this machine."""


class EngineBuildError(EngineError):
    """A library could not compile an engine of a graph, or compiled one that is wrong."""


class MemoryBudgetError(DossrError, MemoryError):
    """The work needs more memory than it may take, or took more than was estimated."""


class PackageMissingError(DossrError):
    """A Python package that this part needs is not installed."""


class ImageError(DossrError):
    """An input picture cannot be used."""


class ImageNotFoundError(ImageError):
    """There is no file at the path."""


class ImageDecodeError(ImageError):
    """The input is not a picture in a known format, or is truncated."""


class ImageTooLargeError(ImageError):
    """The picture has more pixels than allowed (a decompression bomb, or more than the engine's shape)."""


class OutputError(DossrError):
    """A result cannot be written."""


class OutputExistsError(OutputError):
    """The output exists and overwriting was not asked for."""


class OutputNotWritableError(OutputError):
    """The folder is missing, is not writable, or the format is unknown."""


class StoppedError(DossrError):
    """The caller stopped the work; no picture was made."""


class CancelledError(StoppedError):
    """`runtime.Control.cancel` was called."""


class TimeLimitError(StoppedError):
    """A picture took longer than its timeout."""


class GuardError(DossrError):
    """A stage's values cannot be right, and no safer engine was left or allowed; no picture was written."""

    def __init__(self, finding: str, remedy: str = "") -> None:
        super().__init__(f"{finding}; {remedy}" if remedy else finding)
        self.finding = finding
        """Stage, step, value and limit."""
        self.remedy = remedy


class NonFiniteError(GuardError):
    """A stage produced NaN or infinity."""


class OutOfRangeError(GuardError):
    """A stage produced numbers far beyond what a picture's values can be."""
