"""One restoration in PyTorch eager and in the runtime, interleaved in one run: ratios of time and of peak memory.

    python benchmarks/compare_eager.py --checkpoint model.ckpt --bundle bundles/dossr
        [--image photo.png] [--config C] [--context C] [--rounds 3] [--steps 5] [--order 3] [--seed 42] [--threads 2]
        [--channels-last] [--max-memory SIZE] [--json OUT.json]

Same weights, noise (torch-cpu), steps and threads. Each side is a process of its own, so that its peak memory is its
own; they take turns, the ratio is taken within each round, and the first round warms up and is left out. The peak is
that of the process (VmHWM) over loading and every round, mapped weights included; the text encoder, which only eager
would load, is run in another process beforehand. Eager's total is the sum of its stages; the runtime's is that of the
whole call. --image takes a file, or by default 128x128 pixels of the astronaut in scikit-image, which must be
installed then.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIDES = ("eager", "runtime")


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        context = args.context or Path(folder) / "context.safetensors"
        if args.context is None:
            Worker("context", context).close()
        compare(args, context)


def compare(args: argparse.Namespace, context: Path) -> None:
    workers = {side: Worker(side, context) for side in SIDES}
    loads = {side: worker.result for side, worker in workers.items()}
    rounds: list[dict[str, Any]] = []
    for i in range(args.rounds + 1):
        found = {side: worker.ask() for side, worker in workers.items()}
        rounds += [found] if i else []
        print(f"round {i}: " + ", ".join(f"{s} {found[s]['timings']['total']:.1f} s" for s in SIDES), flush=True)
    for worker in workers.values():
        worker.close()
    report = summary(args, loads, rounds)
    print_report(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description="Compares the runtime with PyTorch eager.")
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--bundle", type=Path, required=True)
    p.add_argument("--config", type=Path)
    p.add_argument("--context", type=Path)
    p.add_argument("--image", type=Path)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--order", type=int, default=3)
    p.add_argument("--seed", type=int, default=42)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--channels-last", action="store_true", help="eager on channels-last weights")
    p.add_argument("--max-memory", help="the runtime's budget")
    p.add_argument("--json", type=Path)
    p.add_argument("--side", choices=(*SIDES, "context"), help=argparse.SUPPRESS)
    return p.parse_args()


class Worker:
    """The other end of `serve`, in a process of its own."""

    def __init__(self, side: str, context: Path) -> None:
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--context", str(context)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.result = self._read()

    def ask(self) -> Any:
        print("go", file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a worker ended with code {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate()


def serve(args: argparse.Namespace) -> None:
    """Loads, says so, then restores once for each line of the standard input."""
    from PIL import Image

    from runtime.result import peak_memory

    if args.side == "context":
        from safetensors.torch import save_file

        from export.context import KEY
        from export.source import open_source

        save_file({KEY: open_source(args.checkpoint, args.config, None).context[0].contiguous()}, args.context)
        print("{}")
        return
    if args.image is not None:
        photo = Image.open(args.image).convert("RGB")
    else:
        from skimage.data import astronaut

        photo = Image.fromarray(astronaut()[20:148, 160:288])
    begin = time.perf_counter()
    restore = eager_side(args, photo) if args.side == "eager" else runtime_side(args, photo)
    print(json.dumps({"load": time.perf_counter() - begin, "peak": peak_memory()}), flush=True)
    for _ in sys.stdin:
        pixels, timings = restore()
        print(json.dumps({"timings": timings, "peak": peak_memory(), "pixels": pixels.hex()}), flush=True)


def eager_side(args: argparse.Namespace, photo: Any) -> Any:
    import numpy as np
    import torch
    from eager import restore

    import solvers
    from export.reference import load_reference

    torch.set_num_threads(args.threads)
    reference = load_reference(args.checkpoint, args.config, args.context)
    if args.channels_last:
        for module in reference.modules.values():
            module.to(memory_format=torch.channels_last)
    schedule = reference.source.schedule
    plan = solvers.plan(
        "dos-sde",
        steps=args.steps,
        order=args.order,
        t1=schedule.t1,
        shifting=schedule.shifting,
        train_timesteps=schedule.train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
    )
    image = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    if args.channels_last:
        image = image.contiguous(memory_format=torch.channels_last)

    def run() -> tuple[bytes, dict[str, float]]:
        result = restore(reference, image, plan, args.seed)
        rounded = (result.image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8)
        return rounded.contiguous().numpy().tobytes(), result.timings

    return run


def runtime_side(args: argparse.Namespace, photo: Any) -> Any:
    import runtime

    budget = {"max_memory": args.max_memory} if args.max_memory else {}
    upscaler = runtime.Upscaler(args.bundle, device="cpu", threads=args.threads, **budget)

    def run() -> tuple[bytes, dict[str, float]]:
        result = upscaler(photo, steps=args.steps, order=args.order, seed=args.seed, noise="torch-cpu")
        return result.image.convert("RGB").tobytes(), dict(result.timings)

    return run


def psnr(a: str, b: str) -> float:
    import numpy as np

    x, y = (np.frombuffer(bytes.fromhex(p), np.uint8).astype(np.float64) for p in (a, b))
    error = float(((x - y) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def summary(args: argparse.Namespace, loads: dict[str, Any], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    stages = [s for s in rounds[0]["eager"]["timings"] if s in rounds[0]["runtime"]["timings"]]
    ratios = {
        stage: [r["runtime"]["timings"][stage] / max(r["eager"]["timings"][stage], 1e-9) for r in rounds]
        for stage in stages
    }
    seconds = {
        side: {stage: statistics.median(r[side]["timings"][stage] for r in rounds) for stage in stages}
        for side in SIDES
    }
    peaks = {side: rounds[-1][side]["peak"] for side in SIDES}
    return {
        "bundle": str(args.bundle),
        "threads": args.threads,
        "steps": args.steps,
        "rounds": len(rounds),
        "load": {side: loads[side]["load"] for side in SIDES},
        "seconds": seconds,
        "ratios": {s: {"median": statistics.median(v), "min": min(v), "max": max(v)} for s, v in ratios.items()},
        "peak_memory": peaks | {"ratio": peaks["runtime"] / peaks["eager"]},
        "psnr": psnr(rounds[0]["eager"]["pixels"], rounds[0]["runtime"]["pixels"]),
    }


def print_report(report: dict[str, Any]) -> None:
    print(f"{'stage':12} {'eager s':>9} {'runtime s':>9} {'ratio':>7}  (least .. most of {report['rounds']} rounds)")
    for stage, ratio in report["ratios"].items():
        eager, ours = (report["seconds"][side][stage] for side in SIDES)
        print(f"{stage:12} {eager:9.2f} {ours:9.2f} {ratio['median']:7.3f}  ({ratio['min']:.3f} .. {ratio['max']:.3f})")
    peaks = report["peak_memory"]
    gib = {side: peaks[side] / 2**30 for side in SIDES}
    print(f"{'load':12} {report['load']['eager']:9.2f} {report['load']['runtime']:9.2f}")
    print(f"{'peak GiB':12} {gib['eager']:9.2f} {gib['runtime']:9.2f} {peaks['ratio']:7.3f}")
    print(f"pictures differ by {report['psnr']:.1f} dB (8-bit, first round)")


if __name__ == "__main__":
    parsed = arguments()
    if parsed.side:
        serve(parsed)
    else:
        main()
