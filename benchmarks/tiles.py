"""Holds pictures made in tiles against the same pictures made whole, and measures time and memory over sizes.

python -m benchmarks.tiles quality [--bundle DIR] [--steps N] [--tile N] [--overlap N] [--fixes wavelet,none]
python -m benchmarks.tiles sizes SIZE... --out FOLDER [--steps N]       (SIZE like 1024x768)
python -m benchmarks.tiles one WIDTHxHEIGHT [--steps N]                 (what `sizes` starts for each)

`quality` prints a table in Markdown. For each picture: PSNR of tiled against whole, of the preprocessed picture and of
the result; the seam energy, which is the mean absolute difference between neighboring pixels across the lines where
some tile's weight begins or ends, over the same across the other lines between latent pixels; that divided by what the
whole picture has there; and the largest departure of a tile's mean in a channel, in 1/255. `sizes` writes sizes.json
and sizes.png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

import runtime
from engines.graphs import VAE_FACTOR
from engines.memory import peak_memory
from runtime.default_bundle import DEMO_BUNDLE
from runtime.kernels import Tensor, crop_to_planar, image_to_planar, tensor_from, tile_blend
from runtime.tiles import MARGIN, Axis, Grid, Tiling, choose_grid
from training.photographs import EVALUATION, load

Floats = npt.NDArray[np.float64]
SIZE = (224, 160)
"""Of the pictures that `quality` restores: 2x2 tiles of 64, side by side with the usual overlap, and shifted inward one
above the other."""


def pictures() -> dict[str, npt.NDArray[np.uint8]]:
    """What `quality` restores: flat colors, smooth ramps, text, photographs."""
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width] / (max(SIZE) - 1)

    def picture(*channels: Floats | float) -> npt.NDArray[np.uint8]:
        planes = [np.broadcast_to(np.asarray(channel, np.float64), (height, width)) for channel in channels]
        return np.rint(np.stack(planes, -1) * 255).astype(np.uint8)

    text = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(text)
    for row in range(0, height, 14):
        draw.text((3, row), "Sphinx of black quartz, judge my vow", (20, 20, row), ImageFont.load_default(12))
    found = {
        "flat grey": picture(0.5, 0.5, 0.5),
        "flat white": picture(1.0, 1.0, 1.0),
        "flat color": picture(0.8, 0.3, 0.1),
        "ramp, across": picture(x, x, x),
        "ramp, colors": picture(x, y, 1 - x),
        "text": np.asarray(text),
    }
    for row in EVALUATION[:2]:
        found[f"photograph, {row.name}"] = np.ascontiguousarray(load(row)[60 : 60 + height, 60 : 60 + width])
    return found


def values(result: runtime.upscaler.Result) -> Floats:
    """Pixels in units of 1/255; made with 16 bits, so that rounding does not show."""
    return np.asarray(result.pixels).astype(np.float64) / 257


def seam_energy(picture: Floats, grid: Grid) -> float:
    """Across the lines of the tiles over elsewhere, both directions together. Elsewhere are the other lines between
    latent pixels: a decoder leaves more difference there than within the 8x8 pixels of one.
    """
    across, elsewhere = [], []
    for axis, tiles in ((0, grid.y), (1, grid.x)):
        steps = np.abs(np.diff(picture, axis=axis)).mean(axis=(1 - axis, 2))[VAE_FACTOR - 1 :: VAE_FACTOR]
        lines = np.zeros(len(steps), bool)
        lines[[line - 1 for line in tile_lines(tiles) if 0 < line <= len(steps)]] = True
        across.append(steps[lines])
        elsewhere.append(steps[~lines])
    return float(np.concatenate(across).mean() / max(np.concatenate(elsewhere).mean(), 1e-9))


def tile_lines(axis: Axis) -> list[int]:
    """Latent pixels where some tile's weight begins or ends."""
    corners = axis.corners
    begins = [corner + MARGIN for corner in corners[1:]]
    ends = [corner + axis.tile - MARGIN for corner in corners[:-1]]
    return sorted({*begins, *ends})


def tile_departure(tiled: Floats, whole: Floats, grid: Grid) -> float:
    """The largest difference of a tile's mean in one channel."""
    (h, w), worst = grid.tile, 0.0
    for row, column in grid.places:
        y, x = VAE_FACTOR * grid.y.corners[row], VAE_FACTOR * grid.x.corners[column]
        part = (tiled - whole)[y : y + VAE_FACTOR * h, x : x + VAE_FACTOR * w]
        worst = max(worst, float(np.abs(part.mean(axis=(0, 1))).max()))
    return worst


def quality(args: argparse.Namespace) -> None:
    """Prints the table."""
    columns = ("preprocessed, dB", "PSNR, dB", "largest difference", "seam energy", "over the whole's", "tile mean")
    print("| picture | color fix |", " | ".join(columns), "|")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    tiling = {"tile": args.tile, "tile_overlap": args.overlap}
    with runtime.Upscaler(args.bundle, device="cpu") as upscaler:
        grid = choose_grid(Tiling(tile=args.tile, overlap=args.overlap), upscaler._ways.asked.profiles, *SIZE)
        assert grid is not None
        for name, given in pictures().items():
            preprocessed = preprocess_quality(upscaler, given, grid)
            for fix in args.fixes.split(","):
                settings = {"color_fix": fix, "bit_depth": 16, "steps": args.steps}
                whole = values(upscaler(given, tile=None, **settings))
                tiled = values(upscaler(given, **tiling, **settings))
                error = float(((tiled - whole) ** 2).mean())
                seams = seam_energy(tiled, grid), seam_energy(whole, grid)
                print(
                    f"| {name} | {fix} | {preprocessed:.1f} | {10 * np.log10(255**2 / max(error, 1e-9)):.1f} "
                    f"| {np.abs(tiled - whole).max():.1f} | {seams[0]:.3f} | {seams[0] / max(seams[1], 1e-9):.3f} "
                    f"| {tile_departure(tiled, whole, grid):.3f} |",
                    flush=True,
                )


def preprocess_quality(upscaler: runtime.Upscaler, given: npt.NDArray[np.uint8], grid: Grid) -> float:
    """PSNR of the preprocessed picture, blended from tiles, against the whole one."""
    way = upscaler._ways.asked
    ws = way.workspace(given.shape[1], given.shape[0])
    image_to_planar(given, ws.low_res)
    ws.run("preprocess")
    whole, blended = np.array(ws.preprocessed), Tensor(ws.preprocessed.shape)
    ws = way.tile_workspace((1, *grid.tile), grid)
    for row, column in grid.places:
        y, x = grid.y.corners[row], grid.x.corners[column]
        crop_to_planar(given, 2 * y, 2 * x, ws.low_res)
        ws.run("preprocess")
        windows = (
            tensor_from(np.float32(axis.window(at, VAE_FACTOR))) for axis, at in ((grid.y, row), (grid.x, column))
        )
        tile_blend(ws.preprocessed, blended, *windows, VAE_FACTOR * y, VAE_FACTOR * x)
    return float(-10 * np.log10(max(((np.asarray(blended) - whole) ** 2).mean(), 1e-12)))


class Nowhere:
    """A sink that keeps a checksum of the rows, so that memory is the restoration's own."""

    rows = total = 0

    def begin(self, _shape: tuple[int, int, int], _dtype: str, _metadata: Mapping[str, bytes]) -> None:
        """See `runtime.rows.RowSink.begin`."""
        self.rows = self.total = 0

    def write(self, rows: Tensor) -> None:
        """See `runtime.rows.RowSink.write`."""
        self.rows += rows.shape[0]
        self.total += int(np.asarray(rows).sum(dtype=np.int64))


def one(args: argparse.Namespace) -> None:
    """Restores one picture of that size to nowhere, and prints time and peak memory as JSON."""
    width, height = (int(side) for side in args.sizes[0].split("x"))
    photograph = load(EVALUATION[0])
    tall, wide = -(-height // photograph.shape[0]), -(-width // photograph.shape[1])
    given = Tensor((height, width, 3), "uint8")
    given.copy_from(np.tile(photograph, (tall, wide, 1))[:height, :width])
    with runtime.Upscaler(args.bundle, device="cpu") as upscaler:
        sink = Nowhere()
        plan = upscaler.plan((width, height), steps=args.steps, tile=args.tile, tile_overlap=args.overlap)
        began, busy = time.perf_counter(), time.process_time()
        upscaler.rows(given, sink, steps=args.steps, tile=args.tile, tile_overlap=args.overlap)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
    assert sink.rows == 4 * height
    found = {"width": width, "height": height, "seconds": seconds, "cpu_seconds": busy, "peak": peak_memory()}
    print(json.dumps(found | {"tiles": plan.tiles, "canvas_bytes": plan.canvas_bytes, "checksum": sink.total}))


def sizes(args: argparse.Namespace) -> None:
    """Runs a process for each size, and writes the figures and the plot."""
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "sizes.json"
    found = json.loads(file.read_text()) if file.exists() else []
    for size in args.sizes:
        options = ["--steps", str(args.steps), "--bundle", str(args.bundle)]
        command = [sys.executable, "-m", "benchmarks.tiles", "one", size, *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
        print(done.stdout, end="", flush=True)
        file.write_text(json.dumps(found, indent=1))
    plot(found, args.out / "sizes.png")


def plot(found: list[dict[str, float]], path: Path) -> None:
    """Memory and time per megapixel over the input's size."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found = sorted(found, key=lambda row: row["width"] * row["height"])
    megapixels = [row["width"] * row["height"] / 1e6 for row in found]
    figure, (memory, seconds) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    named = [2 * 3 * row["width"] * row["height"] + row["canvas_bytes"] for row in found]  # our copy of the input, too
    memory.plot(megapixels, [row["peak"] / 2**20 for row in found], "o-", label="peak of the process")
    rest = [(row["peak"] - buffers) / 2**20 for row, buffers in zip(found, named, strict=True)]
    memory.plot(megapixels, rest, "s--", label="without input, canvases and strip")
    memory.set(xlabel="input, megapixels", ylabel="MiB", ylim=(0, None))
    memory.legend()
    rates = [row["cpu_seconds"] / size for row, size in zip(found, megapixels, strict=True)]
    seconds.plot(megapixels, rates, "o-")
    seconds.set(xlabel="input, megapixels", ylabel="CPU seconds a megapixel", ylim=(0, None))
    figure.savefig(path, dpi=100)


def main() -> None:
    """Entry point."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["quality", "sizes", "one"])
    p.add_argument("sizes", nargs="*")
    p.add_argument("--bundle", type=Path, default=DEMO_BUNDLE)
    p.add_argument("--steps", type=int, default=1)
    p.add_argument("--tile", type=int, default=64)
    p.add_argument("--overlap", type=int)
    p.add_argument("--fixes", default="none,wavelet")
    p.add_argument("--out", type=Path, default=Path("build/tiles"))
    args = p.parse_args()
    {"quality": quality, "sizes": sizes, "one": one}[args.what](args)


if __name__ == "__main__":
    main()
