"""Frames as RGB pixels and back, by the clip's own matrix and range. In: a PyAV frame, or pixels. Out: the other."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from runtime.kernels import Tensor
from runtime.video.pyav import load_pyav

_UNSPECIFIED, _LIMITED, _FULL = 0, 1, 2  # AVColorRange
_BT709, _SMPTE170M = 1, 6  # AVColorSpace
_SCALERS = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""AVColorSpace to the number of libswscale's matrix."""
_HIGH_DEFINITION = 720


@dataclass(frozen=True, kw_only=True)
class Colors:
    """What a clip's samples mean, in FFmpeg's numbers."""

    matrix: int
    range: int
    primaries: int
    transfer: int
    deep: bool
    """More than 8 bits a sample."""

    @property
    def rgb(self) -> str:
        """The format of the pixels here."""
        return f"rgb48{'le' if sys.byteorder == 'little' else 'be'}" if self.deep else "rgb24"


def bits_of(frame: Any) -> int:
    """The most bits of a sample."""
    return max(int(component.bits) for component in frame.format.components)


def colors_of(frame: Any, height: int) -> Colors:
    """Those of the clip that a frame is of.

    What it does not say is taken as players do: full range for yuvj formats, else limited, and the matrix by the
    number of lines; the result, which has more lines, says it.

    Args:
        frame: of PyAV.
        height: lines of the result, which decide where the clip is RGB.
    """
    is_rgb = frame.format.is_rgb
    lines = height if is_rgb else frame.height
    assumed = _BT709 if lines >= _HIGH_DEFINITION else _SMPTE170M
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    return Colors(
        matrix=frame.colorspace if frame.colorspace in _SCALERS and not is_rgb else assumed,
        range=_FULL if full and not is_rgb else _LIMITED,
        primaries=frame.color_primaries,
        transfer=frame.color_trc,
        deep=bits_of(frame) > 8,
    )


def pixels_of(frame: Any, colors: Colors) -> Tensor:
    """uint8, or of deep clips uint16, [height, width, 3]."""
    if not frame.format.is_rgb:
        frame.colorspace, frame.color_range = colors.matrix, colors.range
    plane = frame.reformat(format=colors.rgb, dst_color_range=_FULL, interpolation=_exact()).planes[0]
    pixels = Tensor((frame.height, frame.width, 3), "uint16" if colors.deep else "uint8")
    stride = pixels.nbytes // frame.height
    there, rows = memoryview(pixels).cast("B"), memoryview(plane).cast("B")
    for y in range(frame.height):
        there[y * stride : (y + 1) * stride] = rows[y * plane.line_size :][:stride]
    return pixels


def frame_of(pixels: Tensor, colors: Colors, form: str) -> Any:
    """A frame of that pixel format, of pixels as `pixels_of` gives them."""
    height, width, _ = pixels.shape
    frame = load_pyav().VideoFrame(width, height, colors.rgb)
    frame.color_range = _FULL
    plane = frame.planes[0]
    stride = pixels.nbytes // height
    there, rows = memoryview(plane).cast("B"), memoryview(pixels).cast("B")
    for y in range(height):
        there[y * plane.line_size : y * plane.line_size + stride] = rows[y * stride : (y + 1) * stride]
    made = frame.reformat(
        format=form,
        dst_colorspace=_SCALERS[colors.matrix],
        dst_color_range=colors.range,
        interpolation=_exact(),
    )
    made.colorspace, made.color_range = colors.matrix, colors.range
    made.color_primaries, made.color_trc = colors.primaries, colors.transfer
    return made


def _exact() -> Any:
    """Chroma by cubic interpolation, without libswscale's shortcuts."""
    kinds = load_pyav().video.reformatter.Interpolation
    return kinds.BICUBIC | kinds.ACCURATE_RND | kinds.FULL_CHR_H_INT | kinds.FULL_CHR_H_INP
