"""What a restoration gives back, and how its figures are taken. In: stages as they run. Out: a `Result`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.clock import Span
from runtime.images import save_picture
from runtime.kernels import Tensor


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a picture came about."""

    timings: Mapping[str, float]
    """Seconds by stage, and `total`; the image file's decoding is `load`."""
    seed: int
    peak_memory: int
    """Bytes: the most that this process has held so far."""
    engine: str = ""
    """What made the picture: the engine, where it runs, and the bundle's name."""
    guard_hits: tuple[str, ...] = ()
    """What was wrong on the engines that were tried before, and where; empty where the asked one made the picture."""
    replayed: bool = False
    """Whether the picture was put on the GPU by one launch of a recorded CUDA graph."""
    spans: tuple[Span, ...] = field(default=(), repr=False)
    """Where `timings["total"]` went, in finer pieces; what no span covers was spent between them."""
    notices: tuple[str, ...] = ()
    """What of the input is not in the result (frames left out, a profile that does not fit), and that a picture was
    made again; a sentence each."""
    metadata: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """The input's `icc_profile` and `exif`, where they fit the result; the EXIF's orientation is applied and gone."""


@dataclass(frozen=True, kw_only=True)
class Result(Report):
    """A restored picture and how it came about."""

    image: Any
    """PIL.Image.Image: L, LA, RGB or RGBA, and I;16 for 16-bit grey. Pillow has no mode for other 16-bit pictures, so
    those are in 8 bits here, and whole in `pixels` and `save`. For a buffer input this is `pixels`."""
    pixels: Tensor
    """A `runtime.Image8` (buffer protocol and DLPack): uint8 or, where the input has 16 bits, uint16 [H, W, C] with C =
    1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""

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
