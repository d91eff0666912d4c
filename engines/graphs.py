"""The one table of graphs. In: nothing (for the split form: the residuals' shapes). Out: each graph's names, dtypes,
symbolic shapes and axis ranges, from which exporters, optimisation profiles, sample inputs and buffers derive.

A dimension is an int or a product of an axis and a factor, written "B", "H", "8*H" or "H/2".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engines.errors import BundleSchemaError

Dim = int | str

LATENT_CHANNELS = 4
VAE_FACTOR = 8
"""Image pixels to one latent pixel, each side."""
LATENT_MULTIPLE = 8
"""H and W are multiples of it: the UNet halves them three times."""
UPSCALE = 4
"""What the preprocess graph enlarges by."""
LOW_RES_MULTIPLE = LATENT_MULTIPLE * VAE_FACTOR // UPSCALE
"""Sides of the low-resolution image are padded to multiples of it."""


@dataclass(frozen=True, kw_only=True)
class AxisRange:
    """A dynamic axis: smallest, optimal and largest size, and what every size is a multiple of."""

    min: int
    opt: int
    max: int
    multiple: int = 1


def axis_ranges(static: tuple[int, int] | None = None, batch: int = 8) -> dict[str, AxisRange]:
    """The axes of a bundle; `static` = (H, W) in latent pixels pins every one of them (batch 1)."""
    sides = {axis: AxisRange(min=8, opt=64, max=4096, multiple=LATENT_MULTIPLE) for axis in "HW"}
    batches = AxisRange(min=1, opt=1, max=batch)
    if static is not None:
        sides = {
            axis: AxisRange(min=size, opt=size, max=size, multiple=LATENT_MULTIPLE)
            for axis, size in zip("HW", static, strict=True)
        }
        batches = AxisRange(min=1, opt=1, max=1)
    low = VAE_FACTOR // UPSCALE
    return {"B": batches, **sides} | {
        axis.lower(): AxisRange(min=low * r.min, opt=low * r.opt, max=low * r.max, multiple=low * r.multiple)
        for axis, r in sides.items()
    }


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One graph: what goes in and what comes out, in ONNX order."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: str = field(default="", compare=False)

    @property
    def axes(self) -> tuple[str, ...]:
        """Dynamic axes that the inputs name, in order of appearance."""
        found = [parse_dim(d)[0] for spec in self.inputs for d in spec.shape if isinstance(d, str)]
        return tuple(dict.fromkeys(found))


def parse_dim(dim: str) -> tuple[str, int, int]:
    """A symbolic dimension as (axis, numerator, denominator): "8*H" is ("H", 8, 1), "H/2" is ("H", 1, 2)."""
    axis, slash, denominator = dim.partition("/")
    numerator, star, rest = axis.partition("*")
    try:
        parsed = (rest, int(numerator), 1) if star else (axis, 1, int(denominator) if slash else 1)
    except ValueError:
        parsed = ("", 1, 1)
    if not parsed[0].isalpha() or parsed[1] < 1 or parsed[2] < 1:
        raise BundleSchemaError(
            f'a dimension is an int or like "B", "8*H", "H/2", not {dim!r}: export the bundle again'
        )
    return parsed


def resolve_shape(shape: Sequence[Dim], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape with every axis replaced by its size: ("B", 3, "8*H") and {"B": 1, "H": 64} give (1, 3, 512)."""
    resolved = []
    for dim in shape:
        if isinstance(dim, int):
            resolved.append(dim)
        else:
            axis, numerator, denominator = parse_dim(dim)
            resolved.append(sizes[axis] * numerator // denominator)
    return tuple(resolved)


_LATENT: tuple[Dim, ...] = ("B", LATENT_CHANNELS, "H", "W")
_IMAGE: tuple[Dim, ...] = ("B", 3, f"{VAE_FACTOR}*H", f"{VAE_FACTOR}*W")


def _latent(name: str) -> TensorSpec:
    return TensorSpec(name=name, shape=_LATENT)


def _scalar(name: str) -> TensorSpec:
    return TensorSpec(name=name, shape=(1,))


_IMAGE_SPEC = TensorSpec(name="image", shape=_IMAGE)

PREPROCESS = GraphSpec(
    name="preprocess",
    inputs=(TensorSpec(name="image", shape=("B", 3, "h", "w")),),
    outputs=(TensorSpec(name="preprocessed", shape=("B", 3, f"{UPSCALE}*h", f"{UPSCALE}*w")),),
    notes="RRDBNet, in and out in [0,1], clamped",
)
ENCODE = GraphSpec(
    name="encode",
    inputs=(_IMAGE_SPEC,),
    outputs=(_latent("latent_mean"), _latent("latent_std")),
    notes="both times scale_factor",
)
CONDITION = GraphSpec(name="condition", inputs=(_IMAGE_SPEC,), outputs=(_latent("condition"),))
DENOISE = GraphSpec(
    name="denoise",
    inputs=(_latent("latent"), _latent("condition"), _scalar("timestep"), _scalar("control_scale")),
    outputs=(_latent("output"),),
    notes="ControlNet and UNet, prompt baked",
)
DECODE = GraphSpec(name="decode", inputs=(_latent("latent"),), outputs=(_IMAGE_SPEC,), notes="unclamped")


def split_denoise(residuals: Sequence[tuple[int, int]]) -> tuple[GraphSpec, GraphSpec]:
    """The `controlnet` and `unet` graphs that take the place of `denoise`.

    `residuals` holds (channels, downsampling) of each ControlNet output, the middle block's last; they pass from
    one graph to the other as control_0, control_1, ..., already times control_scale.
    """
    controls = tuple(
        TensorSpec(
            name=f"control_{i}",
            shape=("B", channels, *((f"{axis}/{down}" if down > 1 else axis) for axis in "HW")),
        )
        for i, (channels, down) in enumerate(residuals)
    )
    return (
        GraphSpec(name="controlnet", inputs=DENOISE.inputs, outputs=controls),
        GraphSpec(name="unet", inputs=(_latent("latent"), _scalar("timestep"), *controls), outputs=DENOISE.outputs),
    )
