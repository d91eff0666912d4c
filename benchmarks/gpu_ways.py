"""Ways to run a bundle on a GPU, measured in turns: the time of each stage, memory, and whether the picture is right.

    python -m benchmarks.gpu_ways BUNDLE --out FOLDER [--split BUNDLE] [--baked BUNDLE] [--fp32 BUNDLE]
        [--size 128x128] [--steps 5] [--runs 20] [--rounds 4] [--only NAME ...] [--device cuda]

A way is a line of `WAYS`; the first one is how the runtime opens a bundle with ONNX Runtime. TensorRT's ways need its
engines in the bundle. Every way, the first one too, is opened
beside the first, warms up until its CUDA graphs are recorded, and takes turns with it; its ratio is taken within the
rounds, to the first way's time, and the first way's own says what the noise is. Ways with a batch restore pictures
through `Upscaler.stream`; theirs is the time of one picture.

A way whose picture is further than 45 dB from the first way's does not count. What this machine lacks is said and left
out. FOLDER gets gpu-ways.json and gpu-ways.md after every way. With --device cpu, the ways that exist there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.gpu_ways_page import RIGHT, page, winner
from engines.backends import backend_named
from engines.base import EngineSettings
from engines.bundle import open_bundle
from engines.errors import DossrError
from runtime import kernels
from runtime.bench.cli import cases_of
from runtime.bench.machine import machine
from runtime.bench.measure import WARM_UPS, Case, Run, device_of, warm_up
from runtime.bench.peers import ratios
from runtime.bench.photo import picture_file
from runtime.bench.spread import spread

LEAST_BATCHES = 4
SEED = 42


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a bundle is opened and asked."""

    options: Mapping[str, str] = field(default_factory=dict)
    """Of the CUDA provider, over the runtime's own (`engines.ort_cuda.provider_options`)."""
    bundle: str = "main"
    """main, or the option that names it: split, baked, fp32."""
    engine: str = "onnxruntime"
    cuda_graphs: bool = True
    """Whether pictures may be recorded as one graph (TensorRT alone)."""
    lowered: bool = True
    """Whether the form for the device is run, where the bundle has one, or the canonical one."""
    batch: int | None = None
    """Pictures restored together in a stream; None: calls of one picture."""


WAYS: dict[str, Way] = {
    "as the runtime opens it": Way(),
    "no CUDA graphs": Way(options={"enable_cuda_graph": "0"}),
    "prefer_nhwc off": Way(options={"prefer_nhwc": "0"}),
    "canonical": Way(lowered=False),
    "canonical, prefer_nhwc": Way(lowered=False, options={"prefer_nhwc": "1"}),
    "convolutions: DEFAULT": Way(options={"cudnn_conv_algo_search": "DEFAULT"}),
    "convolutions: EXHAUSTIVE": Way(options={"cudnn_conv_algo_search": "EXHAUSTIVE"}),
    "convolutions: small workspace": Way(options={"cudnn_conv_use_max_workspace": "0"}),
    "convolutions fused with their bias": Way(options={"fuse_conv_bias": "1"}),
    "split ControlNet": Way(bundle="split"),
    "baked timesteps": Way(bundle="baked"),
    "fp32": Way(bundle="fp32"),
    "fp32, TF32": Way(bundle="fp32", options={"use_tf32": "1"}),
    "TensorRT": Way(engine="tensorrt"),
    "TensorRT, plain launches": Way(engine="tensorrt", cuda_graphs=False),
    "TensorRT, stream": Way(engine="tensorrt", batch=1),
    "TensorRT, stream, batches of 8": Way(engine="tensorrt", batch=8),
    "stream": Way(batch=1),
    "stream, batches of 2": Way(batch=2),
    "stream, batches of 4": Way(batch=4),
    "stream, batches of 8": Way(batch=8),
}


class LeftOutError(Exception):
    """Why a way does not exist here."""


class Asked:
    """A way, opened."""

    def __init__(self, way: Way, bundle: Path, device: str, case: Case) -> None:
        self.case, self.batch = case, way.batch
        self._photo = picture_file(case.width, case.height)
        begin, free = time.perf_counter(), free_memory()
        self._upscaler = runtime.Upscaler(
            bundle,
            engine=way.engine,
            device=device,
            provider_options=way.options,
            cuda_graphs=way.cuda_graphs,
            fallback="none",
        )
        self.load = time.perf_counter() - begin
        try:
            warm_up(lambda: self.pictures(1), WARM_UPS[device_of(self._upscaler.description)])
            _, result = self.pictures(1)
        except BaseException:
            self.close()
            raise
        self.picture = np.array(memoryview(result.pixels)).astype(np.float64)
        self.memory = None if free is None else free - (free_memory() or 0)
        self.description = self._upscaler.description

    def pictures(self, count: int) -> tuple[list[Run], runtime.Result]:
        """That many calls, or batches; of a stream every run is the mean of its pictures."""
        settings: dict[str, Any] = {"steps": self.case.steps, "order": self.case.order, "seed": SEED}
        if self.batch is None:
            runs = []
            for _ in range(count):
                begin = time.perf_counter()
                result = self._upscaler(self._photo, **settings)
                runs.append(Run(spans=result.spans, total=time.perf_counter() - begin, save=0.0))
            return runs, result
        count *= self.batch
        begin = time.perf_counter()
        results = list(self._upscaler.stream([self._photo] * count, batch=self.batch, **settings))
        seconds = (time.perf_counter() - begin) / count
        return [Run(spans=result.spans, total=seconds, save=0.0) for result in results[:: self.batch]], results[-1]

    def turn(self, count: int) -> list[Run]:
        """A round's runs."""
        return self.pictures(count if self.batch is None else max(LEAST_BATCHES, count // self.batch))[0]

    def seconds(self, run: Run) -> float:
        """A picture's: of a call without its codecs, of a stream with them."""
        return run.picture if self.batch is None else run.total

    def stages(self, runs: list[Run]) -> dict[str, float]:
        """Median seconds of a picture in each stage."""
        names = {"preprocess": ["preprocess"], "encode": ["encode", "condition"], "denoise": ["denoise"]}
        names["decode"] = ["decode"]
        share = self.batch or 1
        found = {
            stage: statistics.median(sum(map(run.seconds, parts)) for run in runs) / share
            for stage, parts in names.items()
        }
        own = [
            sum(s.seconds for s in run.spans if s.name not in ("load", "finish")) / share - run.engine / share
            for run in runs
        ]
        return found | {"own": statistics.median(own)}

    def close(self) -> None:
        self._upscaler.close()


def free_memory() -> int | None:
    """Bytes of the first GPU, where our kernels run on one."""
    try:
        return kernels.cuda.memory(0)[0] if kernels.cuda is not None else None
    except RuntimeError:  # CudaError: no driver
        return None


def psnr(a: Any, b: Any) -> float:
    error = float(np.mean((a - b) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@contextmanager
def canonical(bundle: Path) -> Iterator[Path]:
    """The bundle without its forms for devices: the same files, by hard links."""
    opened = open_bundle(bundle)
    with tempfile.TemporaryDirectory(dir=bundle.resolve().parent, prefix=f".{bundle.name}-canonical-") as folder:
        for name in opened.manifest.files:
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(bundle.resolve() / name, target)
        graphs = {name: dataclasses.replace(entry, lowered={}) for name, entry in opened.manifest.graphs.items()}
        dataclasses.replace(opened.manifest, graphs=graphs).write(Path(folder))
        yield Path(folder)


def check(way: Way, args: argparse.Namespace, bundles: Mapping[str, Path | None]) -> Path:
    """The way's bundle.

    Raises:
        LeftOutError: the way does not exist on this device, or for these bundles.
    """
    if args.device == "cpu" and (way.options or way.engine == "tensorrt"):
        raise LeftOutError("an option of the CUDA provider" if way.options else "TensorRT runs on GPUs")
    bundle = bundles[way.bundle]
    if bundle is None:
        raise LeftOutError(f"no bundle was given (--{way.bundle})")
    manifest = open_bundle(bundle, check_hashes=False).manifest
    if way.batch is not None and way.batch > manifest.axes["B"].max:
        raise LeftOutError(f"the bundle takes batches up to {manifest.axes['B'].max}")
    if not way.lowered and not any(entry.lowered for entry in manifest.graphs.values()):
        raise LeftOutError("the bundle has the canonical form alone")
    return bundle


def measure(way: Way, bundle: Path, base: Asked, args: argparse.Namespace) -> dict[str, Any]:
    """A way's row: seconds, its ratio to the first way's within the rounds, and the picture's distance."""
    with nullcontext(bundle) if way.lowered else canonical(bundle) as folder:
        asked = Asked(way, folder, args.device, base.case)
        try:
            own: list[list[Run]] = []
            others: list[list[Run]] = []
            for _ in range(args.rounds):
                others.append(base.turn(args.runs))
                own.append(asked.turn(args.runs))
        finally:
            asked.close()
    runs = [run for runs in own for run in runs]
    mine = [[asked.seconds(run) for run in runs] for runs in own]
    theirs = [[base.seconds(run) for run in runs] for runs in others]
    medians = [[statistics.median(values)] for values in mine], [[statistics.median(values)] for values in theirs]
    distance = psnr(asked.picture, base.picture)
    return {
        "engine": asked.description,
        "streamed": way.batch is not None,
        "seconds": dataclasses.asdict(spread(mine)),
        "ratio": dataclasses.asdict(ratios(*medians)),
        "stages": asked.stages(runs),
        "load": asked.load,
        "memory": asked.memory,
        "psnr": None if math.isinf(distance) else distance,
        "right": distance >= RIGHT,
    }


def main() -> int:
    args = arguments()
    try:
        (case,) = cases_of([args.size], [args.steps], None)
        backend_named("onnxruntime").prepare(EngineSettings(device=args.device))
    except DossrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    bundles = {"main": args.bundle, "split": args.split, "baked": args.baked, "fp32": args.fp32}
    first = next(iter(WAYS))
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": " ".join(["python", *sys.argv]),
        "bundle": args.bundle.name,
        "device": args.device,
        "machine": machine(),
        "case": dataclasses.asdict(case),
        "rounds": args.rounds,
        "runs": args.runs,
        "ways": {},
    }
    base = Asked(WAYS[first], args.bundle, args.device, case)
    for name, way in WAYS.items():
        if args.only and name not in (first, *args.only):
            continue
        try:
            report["ways"][name] = measure(way, check(way, args, bundles), base, args)
        except (LeftOutError, DossrError) as error:
            report["ways"][name] = {"why": str(error).splitlines()[0][:160]}
        print(name, report["ways"][name].get("why", "measured"), file=sys.stderr, flush=True)
        report["winner"] = winner(report["ways"], streamed=False)
        report["winner of streams"] = winner(report["ways"], streamed=True)
        (args.out / "gpu-ways.json").write_text(json.dumps(report, indent=1) + "\n")
        (args.out / "gpu-ways.md").write_text(page(report))
    base.close()
    print(page(report))
    return 0


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description="Measures ways to run a bundle on a GPU.")
    p.add_argument("bundle", type=Path)
    p.add_argument("--out", type=Path, required=True, help="folder of gpu-ways.json and gpu-ways.md")
    for name, words in (("split", "--split-controlnet"), ("baked", "--bake-steps"), ("fp32", "--precision fp32")):
        p.add_argument(f"--{name}", type=Path, metavar="BUNDLE", help=f"of the same checkpoint, exported with {words}")
    p.add_argument("--device", default="cuda")
    p.add_argument("--size", default="128x128", metavar="WxH")
    p.add_argument("--steps", type=int)
    p.add_argument("--runs", type=int, default=20, help="pictures a round (default: %(default)s)")
    p.add_argument("--rounds", type=int, default=4)
    p.add_argument("--only", nargs="*", choices=list(WAYS), metavar="WAY", help="besides the first")
    return p.parse_args()


if __name__ == "__main__":
    sys.exit(main())
