"""What the kernels of _native.cuda refuse, and how they say it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.runtime.cuda.gpu import Gpu

Make = Callable[..., Any]
SIDES = (1, 3, 4, 6)


def arguments(make: Make) -> dict[str, dict[str, Any]]:
    """Of every kernel, right ones; `make` is Tensor on the GPU."""
    sampler = {
        "plan": make((3, 12)),
        "seed": make((1,), "int64"),
        "timestep": make((1,)),
        "largest": make((4,)),
    }
    latents = {name: make(SIDES) for name in ("x", "x0_hat", "latent_mean", "latent_std")}
    return {
        "cast": {"src": make((5,)), "out": make((5,), "float16")},
        "philox_normal": {"out": make(SIDES), "seed": make((1,), "int64"), "draw": 0},
        "start": {**latents, "noise": [make(SIDES), make(SIDES)], **sampler},
        "solver_step": {
            **{name: make(SIDES) for name in ("x", "output", "x0_hat", "noise")},
            "predictions": [make(SIDES) for _ in range(3)],
            "row": 2,
            **sampler,
        },
        "image_to_planar": {"src": make((4, 6, 3), "uint8"), "out": make((2, 3, 4, 6))},
        "planar_to_image": {
            "src": make((2, 3, 4, 6)),
            "out": make((4, 6, 3), "uint8"),
            "largest": make((2,)),
            "index": 1,
        },
        "wavelet_fix": {name: make(SIDES) for name in ("content", "style", "out")},
        "adain_fix": {**{name: make(SIDES) for name in ("content", "style", "out")}, "work": make((12,), "float64")},
        "tile_blend": {
            "tile": make((2, 3, 4, 6)),
            "canvas": make((1, 3, 5, 7)),
            "window_y": make((4,)),
            "window_x": make((6,)),
            "y": 1,
            "x": 1,
        },
        "crop_to_planar": {"src": make((4, 6, 3), "uint8"), "y": 1, "x": 2, "out": make((2, 3, 3, 3))},
        "tile_take": {"canvas": make((1, 3, 5, 7)), "tile": make((2, 3, 4, 6)), "y": 5, "x": 0},
        "match_planes": {"planes": make((2, 3, 4, 6)), "moves": make((3, 3))},
    }


@pytest.fixture
def make(native: Any) -> Make:
    return lambda shape, dtype="float32", device="cuda": native.Tensor(shape, dtype, device)


def call(gpu: Gpu, kernel: str, values: dict[str, Any]) -> None:
    getattr(gpu.cuda, kernel)(gpu.stream, **values)


REFUSED: list[tuple[str, str, tuple[Any, ...] | Any, type[Exception], str]] = [
    ("cast", "src", ((5,), "float16"), TypeError, "src and out: expected float32 and float16"),
    ("cast", "out", ((6,), "float16"), ValueError, "out: expected the shape of src"),
    ("philox_normal", "out", ((3, 4, 6),), ValueError, r"out: expected the layout \[B, C, H, W\]"),
    ("philox_normal", "out", (SIDES, "float16"), TypeError, "out: expected dtype float32"),
    ("philox_normal", "seed", ((1,), "float32"), TypeError, "seed: expected dtype int64"),
    ("philox_normal", "seed", ((2,), "int64"), ValueError, r"seed: expected int64 \[1\], got int64 \[2\]"),
    ("philox_normal", "draw", -1, ValueError, "draw: expected 0 to 4294967295, got -1"),
    ("philox_normal", "y0", 2**32 - 3, ValueError, "y0: expected 0 to 4294967292"),
    ("philox_normal", "x0", 1.0, TypeError, "x0: expected an integer"),
    ("start", "x", (SIDES, "float64"), TypeError, "x: expected dtype float32"),
    ("start", "x0_hat", ((1, 3, 4, 7),), ValueError, "x0_hat: expected float32"),
    ("start", "latent_mean", ((72,),), ValueError, "latent_mean"),
    ("start", "latent_std", ((1, 3, 6, 4),), ValueError, "latent_std"),
    ("start", "noise", 1, TypeError, "noise: expected a sequence"),
    ("start", "noise", [1, 2], TypeError, r"noise\[0\]: expected a Tensor, got int"),
    ("start", "noise", [1], ValueError, "noise: expected None or a pair"),
    ("start", "noise", [1, 2, 3], ValueError, "noise: expected at most 2 items"),
    ("start", "plan", ((3, 10),), ValueError, r"plan: expected float32 \[N \+ 1, 12\]"),
    ("start", "plan", ((1, 12),), ValueError, "plan: .*of 1 step or more"),
    ("start", "plan", ((3, 12), "float64"), TypeError, "plan: expected dtype float32"),
    ("start", "timestep", ((1,), "int64"), TypeError, "timestep: expected dtype float32"),
    ("start", "timestep", ((1, 1),), ValueError, r"timestep: expected float32 \[1\]"),
    ("start", "largest", ((2,),), ValueError, "largest: expected .*at least 3 elements"),
    ("start", "largest", ((2, 2),), ValueError, "largest: expected float32 of one axis"),
    ("solver_step", "row", 0, ValueError, "row: expected 1 to 2, got 0"),
    ("solver_step", "row", 3, ValueError, "row: expected 1 to 2, got 3"),
    ("solver_step", "row", None, TypeError, "row: expected an integer"),
    ("solver_step", "output", ((1, 3, 4, 5),), ValueError, "output"),
    ("solver_step", "predictions", [], ValueError, "predictions: expected 1 to 3 tensors, got none"),
    ("solver_step", "predictions", [0, 0, 0, 0], ValueError, "predictions: expected at most 3 items"),
    ("solver_step", "predictions", [None], TypeError, r"predictions\[0\]: expected a Tensor, got NoneType"),
    ("solver_step", "noise", ((72,),), ValueError, "noise: expected float32"),
    ("solver_step", "seed", ((1,), "float64"), TypeError, "seed"),
    ("image_to_planar", "src", ((4, 6, 2), "uint8"), ValueError, r"src: expected uint8 or uint16 \[h, w, 1, 3 or 4\]"),
    ("image_to_planar", "src", ((4, 6, 3),), TypeError, "src: expected uint8 or uint16"),
    ("image_to_planar", "src", ((5, 6, 3), "uint8"), ValueError, "out: expected sides no smaller"),
    ("image_to_planar", "out", ((2, 4, 4, 6),), ValueError, r"out: expected float32 \[B, 3, H, W\]"),
    ("image_to_planar", "item", 2, ValueError, "item: expected 0 to 1, got 2"),
    ("planar_to_image", "out", ((4, 6, 4), "uint8"), ValueError, "out: expected uint8 or uint16"),
    ("planar_to_image", "out", ((5, 6, 3), "uint8"), ValueError, "sides no larger than those of src"),
    ("planar_to_image", "out", ((4, 6, 3),), TypeError, "out: expected dtype uint8 or uint16"),
    ("planar_to_image", "index", 2, ValueError, "index: expected 0 to 1, got 2"),
    ("planar_to_image", "largest", ((0,),), ValueError, "largest: .*at least 1 elements"),
    ("planar_to_image", "item", -1, ValueError, "item"),
    ("wavelet_fix", "style", ((1, 3, 4, 7),), ValueError, "style: expected float32"),
    ("wavelet_fix", "out", (SIDES, "float16"), TypeError, "out: expected dtype float32"),
    ("wavelet_fix", "content", ((3, 4, 6),), ValueError, r"content: expected the layout \[B, C, H, W\]"),
    ("adain_fix", "work", ((11,), "float64"), ValueError, r"work: expected at least adain_work\(content.shape\) = 12"),
    ("adain_fix", "work", ((12,),), TypeError, "work: expected dtype float64"),
    ("adain_fix", "out", ((1, 3, 4, 7),), ValueError, "out"),
    ("tile_blend", "canvas", ((1, 3, 3, 7),), ValueError, "canvas: expected .*sides no smaller"),
    ("tile_blend", "window_y", ((6,),), ValueError, r"window_y: expected float32 \[4\]"),
    ("tile_blend", "y", 2, ValueError, "y: expected 0 to 1, got 2"),
    ("tile_blend", "item", 2, ValueError, "item: expected 0 to 1, got 2"),
    ("crop_to_planar", "src", ((4, 6, 2), "uint8"), ValueError, r"src: expected uint8 or uint16 \[h, w, 1, 3 or 4\]"),
    ("crop_to_planar", "src", ((4, 6, 3),), TypeError, "src: expected uint8 or uint16"),
    ("crop_to_planar", "y", 2**29 + 1, ValueError, "y: expected 0 to 536870912"),
    ("crop_to_planar", "x", -1, ValueError, "x: expected 0 to"),
    ("crop_to_planar", "out", ((3, 3, 3),), ValueError, r"out: expected the layout \[B, 3, H, W\]"),
    ("tile_take", "canvas", ((2, 3, 5, 7),), ValueError, r"canvas: expected float32 \[1, C, H, W\]"),
    ("tile_take", "tile", ((2, 4, 4, 6),), ValueError, "canvas: expected .*with the channels of tile"),
    ("tile_take", "y", 6, ValueError, "y: expected 0 to 5, got 6"),
    ("tile_take", "item", 2, ValueError, "item: expected 0 to 1, got 2"),
    ("match_planes", "moves", ((3, 2),), ValueError, r"moves: expected float32 \[3, 3\]"),
    ("match_planes", "planes", ((2, 3, 4),), ValueError, r"planes: expected the layout \[B, C, H, W\]"),
]


@pytest.mark.parametrize(("kernel", "name", "value", "error", "text"), REFUSED)
def test_refused(gpu: Gpu, make: Make, kernel: str, name: str, value: Any, error: type[Exception], text: str) -> None:
    values = arguments(make)[kernel]
    call(gpu, kernel, values)
    changed = make(*value) if isinstance(value, tuple) else value
    with pytest.raises(error, match=text):
        call(gpu, kernel, {**values, name: changed})


KERNELS = (
    "cast", "philox_normal", "start", "solver_step", "image_to_planar", "planar_to_image", "wavelet_fix", "adain_fix",
    "tile_blend", "crop_to_planar", "tile_take", "match_planes",
)  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "pinned"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_tensors_elsewhere_are_refused(gpu: Gpu, make: Make, kernel: str, device: str) -> None:
    values = arguments(make)[kernel]
    places = [(name, None) for name, value in values.items() if hasattr(value, "shape")]
    places += [(name, i) for name, value in values.items() if isinstance(value, list) for i in range(len(value))]
    for name, i in places:
        here = values[name] if i is None else values[name][i]
        there = make(here.shape, here.dtype, device)
        changed = there if i is None else [there if i == j else one for j, one in enumerate(values[name])]
        text = name if i is None else rf"{name}\[{i}\]"
        with pytest.raises(TypeError, match=f"^{text}: expected a tensor on cuda:0"):
            call(gpu, kernel, {**values, name: changed})


WRITTEN = {
    "cast": ["out"],
    "philox_normal": ["out"],
    "start": ["x", "x0_hat", "timestep", "largest"],
    "solver_step": ["x", "timestep", "largest"],
    "image_to_planar": ["out"],
    "planar_to_image": ["out", "largest"],
    "wavelet_fix": ["out"],
    "adain_fix": ["out", "work"],
    "tile_blend": ["canvas"],
    "crop_to_planar": ["out"],
    "tile_take": ["tile"],
    "match_planes": ["planes"],
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_shared_memory_is_refused(gpu: Gpu, make: Make, native: Any, kernel: str) -> None:
    values = arguments(make)[kernel]
    tensors = {name: value for name, value in values.items() if hasattr(value, "shape")}
    refused = 0
    for written, other in itertools.product(WRITTEN[kernel], tensors):
        one, two = tensors[written], tensors[other]
        if written == other or (one.shape, one.dtype) != (two.shape, two.dtype):
            continue
        refused += 1
        with pytest.raises(ValueError, match="is written and must not share memory with"):
            call(gpu, kernel, {**values, other: one})
    if kernel in ("start", "solver_step", "wavelet_fix", "adain_fix"):
        assert refused


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(3), 2)))
def test_predictions_that_share_memory(gpu: Gpu, make: Make, first: int, second: int) -> None:
    values = arguments(make)["solver_step"]
    ring = values["predictions"]
    ring[second] = ring[first]
    if first == 0:
        with pytest.raises(ValueError, match=r"predictions\[0\] is written and must not share memory"):
            call(gpu, "solver_step", values)
    else:
        call(gpu, "solver_step", values)
    values = arguments(make)["solver_step"]
    values["noise"] = values["predictions"][0]
    with pytest.raises(ValueError, match="must not share memory with noise"):
        call(gpu, "solver_step", values)


def test_noise_is_drawn_for_four_sides_alone(gpu: Gpu, make: Make) -> None:
    for kernel in ("start", "solver_step"):
        values = arguments(make)[kernel]
        flat = {
            name: make((72,)) if getattr(value, "shape", None) == SIDES else value for name, value in values.items()
        }
        flat["noise"] = [make((72,)), make((72,))] if kernel == "start" else make((72,))
        if kernel == "solver_step":
            flat["predictions"] = [make((72,))]
        call(gpu, kernel, flat)
        with pytest.raises(ValueError, match=r"x: expected the layout \[B, C, H, W\]"):
            call(gpu, kernel, {**flat, "noise": None})


def test_adain_work(gpu: Gpu) -> None:
    assert gpu.cuda.adain_work((1, 3, 4, 6)) == 12
    assert gpu.cuda.adain_work((2, 3, 0, 6)) == 0
    with pytest.raises(ValueError, match=r"shape: expected the four sides \[B, C, H, W\]"):
        gpu.cuda.adain_work((3, 4, 6))
    with pytest.raises(TypeError, match="shape: expected a sequence"):
        gpu.cuda.adain_work(3)
