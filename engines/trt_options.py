"""How TensorRT's plans are built: what a caller may choose, and what follows from it. In: numbers and names. Out:
`PlanOptions`, part of the plans' key.
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.errors import SettingsError
from engines.profiles import Profile

HARDWARE = ("none", "ampere+", "same-cc")
"""What `hardware_compatible` may be: plans for one kind of GPU, for every one from compute capability 8.0 on, for those
of the same compute capability."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How plans are built.

    Raises:
        SettingsError: a value out of its range, or options that contradict each other.
    """

    profiles: tuple[Profile, ...]
    optimization_level: int = 3
    """0 to 5: the higher, the longer TensorRT searches."""
    version_compatible: bool = False
    hardware_compatible: str = "none"
    weight_streaming: bool = False
    strip_weights: bool = False

    def __post_init__(self) -> None:
        if not self.profiles:
            raise SettingsError("plans need a profile of shapes; name one like 64x64")
        if self.optimization_level not in range(6):
            raise SettingsError(f"the optimization level must be 0 to 5, not {self.optimization_level}")
        if self.hardware_compatible not in HARDWARE:
            raise SettingsError(
                f"hardware compatibility must be one of {', '.join(HARDWARE)}, not {self.hardware_compatible!r}"
            )
        check_refit(version_compatible=self.version_compatible, strip_weights=self.strip_weights)

    @property
    def static(self) -> bool:
        """Whether there is one size alone: shapes are then the network's own, and no profile is needed."""
        return len(self.profiles) == 1 and self.profiles[0].static

    @property
    def preview_features(self) -> tuple[str, ...]:
        """Names of PreviewFeature that are set where the library has them (10.10 and newer): what a range of shapes
        needs in memory then follows the shapes that are bound, not the largest.
        """
        ranges = any(not profile.static for profile in self.profiles)
        return ("RUNTIME_ACTIVATION_RESIZE_10_10",) if ranges else ()


def check_refit(*, version_compatible: bool, strip_weights: bool) -> None:
    """Version-compatible plans run in the lean runtime, also where they carry it, and that cannot put weights in.
    Source: NVIDIA, "TensorRT hardware and version compatibility" (limits of the lean runtime).

    Raises:
        SettingsError: both are asked for.
    """
    if version_compatible and strip_weights:
        raise SettingsError(
            "--version-compatible and --strip-weights exclude each other: such plans run in TensorRT's lean runtime, "
            "which cannot put weights in; leave one of them out"
        )
