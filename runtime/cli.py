"""`python -m runtime` and `dossr upscale`. In: arguments. Out: image files, and an exit code."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from engines.backends import ENGINES
from engines.cli import Parser
from engines.errors import OutputExistsError, SettingsError
from engines.files import check_writable
from runtime.color_fix import COLOR_FIXES
from runtime.control import Progress
from runtime.default_bundle import BUNDLE_VARIABLE, DEMO_BUNDLE, default_bundle
from runtime.fallback import AUTO
from runtime.images import FORMATS, check_output, check_scale, load_picture, result_depth, result_size
from runtime.noise import NOISE_SOURCES, noise_source
from runtime.result import Result
from runtime.tiles import AUTO as AUTO_TILE
from runtime.tiles import parse_tiling
from runtime.trace import Trace
from runtime.upscaler import Upscaler


def parser(prog: str = "python -m runtime") -> Parser:
    """The command line's options."""
    p = Parser(prog=prog, description="Restores and enlarges pictures with a DoSSR bundle.")
    p.add_argument("input", nargs="+", type=Path, metavar="INPUT", help="image files")
    p.add_argument("-o", "--output", type=Path, required=True, help="image file, or a folder, which is made")
    p.add_argument(
        "--bundle",
        type=Path,
        help=f"folder of the exported model (default: ${BUNDLE_VARIABLE}, else the demo model that ships)",
    )
    p.add_argument(
        "--scale", type=float, default=4, help="of the result; other than 4 by a final resize (default: %(default)s)"
    )
    p.add_argument("--steps", type=int, help="network calls (default: the bundle's, 5)")
    p.add_argument("--order", type=int, help="of the solver, 1 to 3 (default: the bundle's, 3)")
    p.add_argument("--seed", type=int, default=42, help="of the noise (default: %(default)s)")
    p.add_argument(
        "--noise", choices=list(NOISE_SOURCES), default="philox", help="source of the noise (default: %(default)s)"
    )
    p.add_argument(
        "--color-fix",
        choices=list(COLOR_FIXES),
        default="wavelet",
        help="where colors come from (default: %(default)s)",
    )
    p.add_argument(
        "--tile",
        default=AUTO_TILE,
        metavar="auto|never|N",
        help="cut pictures into tiles of N latent pixels, 1/8 of the result's; auto: large ones (default: %(default)s)",
    )
    p.add_argument("--tile-overlap", type=int, metavar="N", help="of tiles, in latent pixels (default: 16)")
    p.add_argument("--tile-batch", type=int, metavar="N", help="tiles of an engine call (default: 1, more on a GPU)")
    p.add_argument("--quality", type=int, help="1 to 100, of JPEG, WebP (default: 95) and AVIF (90)")
    p.add_argument(
        "--bit-depth", type=int, choices=(8, 16), help="of the result (default: the input's in PNG and TIFF, else 8)"
    )
    p.add_argument(
        "--format", choices=[suffix.removeprefix(".") for suffix in FORMATS], help="of files in a folder (default: png)"
    )
    p.add_argument("--engine", choices=ENGINES, default="auto", help="what runs the graphs (default: %(default)s)")
    p.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N, openvino, coreml, migraphx or dml (default: %(default)s)",
    )
    p.add_argument(
        "--no-cuda-graphs", action="store_true", help="put every engine call on the GPU by itself, not whole pictures"
    )
    p.add_argument(
        "--rebuild-engines",
        action="store_true",
        help="build TensorRT engines into the bundle where it has none for this machine (minutes)",
    )
    p.add_argument("--threads", type=int, help="CPU threads of an engine call (default: every core allowed)")
    p.add_argument(
        "--max-memory", metavar="SIZE", help="what to hold at most, like 9GiB: engines are closed to stay below it"
    )
    p.add_argument(
        "--fallback",
        default=AUTO,
        metavar="auto|none|DIR",
        help="what makes a picture again whose values went wrong: a safer engine, nothing, or another bundle, too "
        "(default: %(default)s)",
    )
    p.add_argument(
        "--provider-option", action="append", default=[], metavar="KEY=VALUE", help="for ONNX Runtime's provider"
    )
    p.add_argument("--trace", type=Path, metavar="FILE.safetensors", help="write every intermediate (one input)")
    p.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    p.add_argument("--json", action="store_true", help="print one JSON object a picture")
    p.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return p


def main(arguments: Sequence[str], prog: str = "python -m runtime") -> int:
    """Restores every input. Everything that can be checked is checked before the bundle is opened."""
    args = parser(prog).parse_args(arguments)
    warnings.filterwarnings("ignore", module="PIL")  # damage is told in our own words
    if args.quiet:
        logging.getLogger("dossr").setLevel(logging.ERROR)
    check_scale(args.scale)
    noise_source(args.noise, args.seed)
    tiling = parse_tiling(args.tile, args.tile_overlap, args.tile_batch)
    outputs = _outputs(args)
    depths = [_checked_depth(source, output, args) for source, output in zip(args.input, outputs, strict=True)]
    bundle = args.bundle or default_bundle()
    if bundle == DEMO_BUNDLE and not (args.quiet or args.json):
        print(
            "no --bundle: the small demo model that ships is used; give a bundle of full-size weights for full quality",
            file=sys.stderr,
        )
    options = [_key_value(option) for option in args.provider_option]
    with Upscaler(
        bundle,
        engine=args.engine,
        device=args.device,
        threads=args.threads,
        provider_options=options,
        max_memory=args.max_memory,
        cuda_graphs=not args.no_cuda_graphs,
        rebuild_engines=args.rebuild_engines,
        fallback=args.fallback,
    ) as upscaler:
        for source, output, depth in zip(args.input, outputs, depths, strict=True):
            trace = Trace() if args.trace else None
            with _Progress(source.name, enabled=not (args.quiet or args.json)) as progress:
                result = upscaler(
                    source,
                    scale=args.scale,
                    steps=args.steps,
                    order=args.order,
                    seed=args.seed,
                    noise=args.noise,
                    color_fix=args.color_fix,
                    tile=tiling.tile,
                    tile_overlap=tiling.overlap,
                    tile_batch=tiling.batch,
                    bit_depth=depth,
                    trace=trace,
                    on_progress=progress,
                )
            output.parent.mkdir(exist_ok=True)
            if trace is not None:
                trace.write(args.trace)
            result.save(output, quality=args.quality, bit_depth=args.bit_depth, overwrite=args.overwrite)
            if not (args.quiet or args.json):
                size = f"{result.image.width}x{result.image.height}"
                seconds = result.timings["total"]
                print(f"{source.name} -> {output}, {size}, {seconds:.2f} s, seed {result.seed}", file=sys.stderr)
            if args.json:
                print(json.dumps(_report(source, output, result, str(bundle))), flush=True)
    return 0


def _checked_depth(source: Path, output: Path, args: argparse.Namespace) -> int:
    """The result's bits a channel, once it is certain that the input can be read and the result written."""
    picture = load_picture(source)
    check_output(
        output,
        size=result_size(picture, args.scale),
        channels=(1 if picture.grey else 3) + (picture.alpha is not None),
        given_depth=picture.bit_depth,
        quality=args.quality,
        bit_depth=args.bit_depth,
    )
    return result_depth(output, args.bit_depth, picture.bit_depth)


def _outputs(args: argparse.Namespace) -> list[Path]:
    """One output path an input; in a folder the inputs' names with the format's suffix. Nothing is written yet."""
    if len(args.input) > 1 and args.trace:
        raise SettingsError(f"--trace takes one input, not {len(args.input)}; run them one by one")
    folder = not args.output.suffix or _is_folder(args.output)
    if len(args.input) > 1 and not folder:
        raise SettingsError(f"{len(args.input)} inputs need a folder as --output, {args.output} is a file's name")
    if args.format and not folder and FORMATS.get(args.output.suffix.lower()) is not FORMATS[f".{args.format}"]:
        raise SettingsError(
            f"--format {args.format} contradicts --output {args.output}; leave it out, or name a folder"
        )
    suffix = args.format or "png"
    outputs = [args.output / f"{source.stem}.{suffix}" if folder else args.output for source in args.input]
    written = [*outputs, *([args.trace] if args.trace else [])]
    if folder and not args.output.exists():
        check_writable(args.output)
    real = [path.resolve() for path in written]
    for i, path in enumerate(written):
        if real[i] in real[:i]:
            raise SettingsError(f"two results would both be written to {path}; give them different names")
        if path.parent.exists() or not folder:
            check_writable(path)
        if path.exists() and not args.overwrite:
            raise OutputExistsError(f"{path} exists; pass --overwrite to replace it, or choose another name")
    if args.trace and real[-1] in [source.resolve() for source in args.input]:
        raise SettingsError(f"--trace would replace the input {args.trace}; give it another name")
    return outputs


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long: refused in words by check_writable
        return False


def _key_value(option: str) -> tuple[str, str]:
    key, equals, value = option.partition("=")
    if not equals or not key:
        raise SettingsError(f"--provider-option takes KEY=VALUE, not {option!r}")
    return key, value


def _report(source: Path, output: Path, result: Result, bundle: str) -> dict[str, object]:
    return {
        "input": str(source),
        "output": str(output),
        "width": result.image.width,
        "height": result.image.height,
        "seed": result.seed,
        "timings": {stage: round(seconds, 6) for stage, seconds in result.timings.items()},
        "bit_depth": 16 if result.pixels.dtype == "uint16" else 8,
        "notices": list(result.notices),
        "peak_memory": result.peak_memory,
        "bundle": bundle,
        "engine": result.engine,
        "guard_hits": list(result.guard_hits),
    }


class _Progress:
    """A line that is written over on a terminal, and goes at the end; nothing in a pipe."""

    def __init__(self, name: str, *, enabled: bool) -> None:
        self._name = name
        self._live = enabled and sys.stderr.isatty()
        self._start = time.perf_counter()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __call__(self, progress: Progress) -> None:
        if self._live:
            stage, count = progress.stage, ""
            if stage == "denoise":
                count = f" {progress.step}/{progress.steps}"
            elapsed = time.perf_counter() - self._start
            print(f"\r\x1b[K{self._name}: {stage}{count}, {elapsed:.1f} s", end="", file=sys.stderr, flush=True)
