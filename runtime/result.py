"""What a restoration gives back, and how its figures are taken. In: stages as they run. Out: a `Result`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.images import save_picture
from runtime.kernels import Tensor


@dataclass(frozen=True, kw_only=True)
class Result:
    """A restored picture and how it came about."""

    image: Any
    """PIL.Image.Image: L, LA, RGB or RGBA, and I;16 for 16-bit grey. Pillow has no mode for other 16-bit pictures, so
    those are in 8 bits here, and whole in `pixels` and `save`. For a buffer input this is `pixels`."""
    pixels: Tensor
    """A `runtime.Image8` (buffer protocol and DLPack): uint8 or, where the input has 16 bits, uint16 [H, W, C] with C =
    1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
    timings: Mapping[str, float]
    """Seconds by stage, and `total`; the image file's decoding is `load`."""
    seed: int
    peak_memory: int
    """Bytes: the most that this process has held so far."""
    engine: str = ""
    """What made the picture: the engine, where it runs, and the bundle's name."""
    guard_hits: tuple[str, ...] = ()
    """What was wrong on the engines that were tried before, and where; empty where the asked one made the picture."""
    notices: tuple[str, ...] = ()
    """What of the input is not in the result (frames left out, a profile that does not fit), and that a picture was
    made again; a sentence each."""
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    """The input's `icc_profile` and `exif`, where they fit the result; the EXIF's orientation is applied and gone."""

    def save(
        self,
        path: str | Path,
        *,
        quality: int | None = None,
        bit_depth: int | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes `pixels` to a file with the input's ICC profile and EXIF, whole or not at all.

        Args:
            path: ends in .png, .jpg, .jpeg, .webp, .tif, .tiff or .avif; its folder must exist.
            quality: 1..100, of JPEG and WebP (95 where None) and AVIF (90).
            bit_depth: 8 or 16; None: that of `pixels` in PNG and TIFF, 8 in the others. More bits than `pixels` has
                add no detail: ask `Upscaler` for them.
            overwrite: replace a file that exists.

        Raises:
            OutputExistsError: the file exists, and `overwrite` is False.
            OutputNotWritableError: the suffix, the size, alpha or the place.
            SettingsError: a quality or depth out of range, or that the format does not have.
            PackageMissingError: 16 bits in several channels need pyvips.
        """
        save_picture(
            self.pixels,
            Path(path),
            metadata=self.metadata,
            quality=quality,
            bit_depth=bit_depth,
            overwrite=overwrite,
        )


class Clock:
    """Seconds by stage, and the time since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Adds the block's seconds to the stage's."""
        begin = time.perf_counter()
        yield
        self._stages[stage] = self._stages.get(stage, 0.0) + time.perf_counter() - begin

    def timings(self) -> dict[str, float]:
        """Seconds by stage so far, and `total`."""
        return self._stages | {"total": time.perf_counter() - self._start}


def peak_memory() -> int:
    """The most memory that this process has held, in bytes; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024  # ru_maxrss would hold the parent's, too
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
