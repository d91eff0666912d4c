"""`python -m runtime.bench` and `dossr bench`. In: arguments. Out: a report as a table, and as JSON and HTML files."""

from __future__ import annotations

import datetime
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines.backends import ENGINES, choose_backend
from engines.base import EngineSettings
from engines.bundle import Precision, open_bundle
from engines.cli import Parser
from engines.errors import OutputExistsError, SettingsError
from engines.files import atomic_path, check_writable
from engines.memory import parse_size
from engines.ort import usable_cores
from runtime.arguments import MAX_THREADS
from runtime.bench.ceilings import best, measure_ceilings
from runtime.bench.cold import Cold, first_picture
from runtime.bench.machine import gpus, machine, processor
from runtime.bench.measure import Bench, Case, Run, device_of, measured
from runtime.bench.page import page
from runtime.bench.peers import PEERS, Peers, PeerTask, peers_named
from runtime.bench.photo import picture_file
from runtime.bench.report import SCHEMA, case_report, cold_report, peer_report, throughput_report
from runtime.bench.table import lines
from runtime.bench.throughput import StreamBench, throughput
from runtime.default_bundle import DEMO_BUNDLE, default_bundle
from runtime.plans import bundle_plan
from runtime.upscaler import Upscaler

MAX_SIDE = 4096
_ROUNDS = 5
_COLD_PROCESSES, _COLD_SECONDS = 3, 60.0
"""Fresh processes, and after how many seconds no further one is started."""


def parser(prog: str = "python -m runtime.bench") -> Parser:
    """The command line's options."""
    p = Parser(prog=prog, description="Measures a bundle on this machine, and compares it with others' ways to run it.")
    p.add_argument("--bundle", type=Path, help="folder of the exported model (default: as of `dossr upscale`)")
    p.add_argument("--engine", choices=ENGINES, default="auto", help="what runs the graphs (default: %(default)s)")
    p.add_argument("--device", default="auto", help="as of `dossr upscale` (default: %(default)s)")
    p.add_argument("--threads", type=int, help="CPU threads of an engine call (default: every core allowed)")
    p.add_argument("--max-memory", metavar="SIZE", help="the runtime's budget, like 9GiB")
    p.add_argument(
        "--sizes", nargs="+", default=["128x128"], metavar="WxH", help="of the inputs, in pixels (default: 128x128)"
    )
    p.add_argument("--steps", nargs="+", type=int, metavar="N", help="network calls (default: the bundle's)")
    p.add_argument(
        "--batch", nargs="+", type=int, default=[], metavar="N", help="pictures restored together, one after the other"
    )
    p.add_argument("--order", type=int, help="of the solver, 1 to 3 (default: the bundle's)")
    p.add_argument("--runs", type=int, default=20, help="pictures of each size that are timed (default: %(default)s)")
    p.add_argument(
        "--against", nargs="+", choices=(*PEERS, "all"), default=[], metavar="PEER", help=f"all, or {', '.join(PEERS)}"
    )
    p.add_argument("--checkpoint", type=Path, help="that the bundle was made of, for the peers that run PyTorch")
    p.add_argument("--config", type=Path, help="the checkpoint's")
    p.add_argument("--context", type=Path, help="the checkpoint's")
    p.add_argument("--seed", type=int, default=42, help="of the noise (default: %(default)s)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the whole report")
    p.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    p.add_argument("--overwrite", action="store_true", help="replace files that exist")
    p.add_argument("--quiet", action="store_true", help="print no progress")
    return p


def main(arguments: Sequence[str], prog: str = "python -m runtime.bench") -> int:
    """Measures and reports. Everything that can be checked is checked before anything is measured."""
    args = parser(prog).parse_args(arguments)
    if args.runs < 1:
        raise SettingsError(f"--runs must be 1 or more, not {args.runs}")
    if args.threads is not None and not 1 <= args.threads <= MAX_THREADS:
        raise SettingsError(f"threads must be a whole number in 1..{MAX_THREADS}, not {args.threads}")
    if args.max_memory is not None:
        parse_size(args.max_memory)
    if args.json and args.html and args.json.resolve() == args.html.resolve():
        raise SettingsError(f"two reports would both be written to {args.json}; give them different names")
    for path in filter(None, (args.json, args.html)):
        check_writable(path)
        if path.exists() and not args.overwrite:
            raise OutputExistsError(f"{path} exists; pass --overwrite to replace it, or choose another name")
    cases = cases_of(args.sizes, args.steps or [None], args.order)
    report = _measure(args, cases, ["dossr bench", *map(str, arguments)])
    print("\n".join(lines(report)))
    for path, text in ((args.json, json.dumps(report, indent=1) + "\n"), (args.html, page(report))):
        if path is not None:
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return 0


def cases_of(sizes: Sequence[str], steps: Sequence[int | None], order: int | None) -> list[Case]:
    """The first size with the first number of steps, then each other size, then each other number of steps.

    Raises:
        SettingsError: a size that is not WxH with sides in 1..4096.
    """
    pixels = []
    for text in sizes:
        match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
        width, height = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= min(width, height) <= max(width, height) <= MAX_SIDE:
            raise SettingsError(f"--sizes takes WxH, sides of 1 to {MAX_SIDE} pixels like 128x96, not {text!r}")
        pixels.append((width, height))
    found = [Case(width=w, height=h, steps=steps[0], order=order) for w, h in pixels]
    found += [Case(width=pixels[0][0], height=pixels[0][1], steps=count, order=order) for count in steps[1:]]
    return list(dict.fromkeys(found))


def _measure(args: Any, cases: list[Case], command: list[str]) -> dict[str, Any]:
    def say(text: str) -> None:
        if not args.quiet:
            print(text, file=sys.stderr, flush=True)

    folder = args.bundle or default_bundle()
    bundle = open_bundle(folder)
    plans = [bundle_plan(bundle.manifest, case.steps, case.order) for case in cases]
    options = {
        "bundle": str(folder),
        "engine": args.engine,
        "device": args.device,
        "threads": args.threads,
        "max_memory": args.max_memory,
        "fallback": "none",  # a picture that is made again would be timed as one
    }
    settings = EngineSettings(device=args.device, threads=args.threads)
    backend = choose_backend(args.engine, bundle, settings)
    backend.prepare(settings)
    profiles = backend.profiles(bundle, settings)
    most = max(profile.max[0] for profile in profiles)
    for batch in args.batch:
        if not 1 <= batch <= most:
            raise SettingsError(f"--batch takes whole numbers in 1..{most}, which the engines take, not {batch}")
    facts = machine()
    say("ceilings of the machine")
    half = bundle.manifest.precision is Precision.FP16
    before = measure_ceilings(settings, half=half)
    say("first picture of a fresh process")
    colds = _colds(options, cases[0])
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dossr-bench-")))
        photo = place / "photo.png"
        photo.write_bytes(picture_file(cases[0].width, cases[0].height))
        upscaler = stack.enter_context(Upscaler(**options))
        engine = upscaler.description
        device = device_of(engine)
        task = PeerTask(
            bundle=folder,
            checkpoint=args.checkpoint,
            config=args.config,
            context=args.context,
            device=device,
            threads=args.threads or usable_cores(),
            plan=plans[0],
            seed=args.seed,
            photo=photo,
            demo=folder.resolve() == DEMO_BUNDLE.resolve(),
        )
        names = peers_named(args.against, device)
        if names:
            say(f"opening {', '.join(names)}")
        peers = stack.enter_context(Peers(names, task, place))
        streams = [StreamBench(upscaler, cases[0], batch) for batch in dict.fromkeys(args.batch)]
        rounds, streamed = _rounds(args.runs, [Bench(upscaler, case) for case in cases], streams, peers, say)
        results = [measured(case, runs) for case, runs in zip(cases, rounds, strict=True)]
        ours = [[run.picture for run in runs] for runs in rounds[0]]
        result = place / "ours.png"
        if peers.open:
            first = cases[0]
            same = upscaler(photo, steps=first.steps, order=first.order, seed=args.seed, noise="torch-cpu", tile=None)
            same.save(result)
        stages = _peers_stages([run for runs in rounds[0] for run in runs])
        compared = [peer_report(peer, ours, stages, result) for peer in peers.open]
        after = measure_ceilings(settings, half=half)
    ceilings = best(before, after)
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "bundle": {
            "folder": str(folder),
            "precision": str(bundle.manifest.precision),
            "checkpoint": dict(bundle.manifest.checkpoint),
        },
        "engine": engine,
        "threads": args.threads or usable_cores(),
        "order": plans[0].order,
        "rounds": len(rounds[0]),
        "machine": facts | {"processor after": processor(), "gpus after": gpus()},
        "ceilings": asdict(ceilings)
        | {"flops": ceilings.flops, "flops before": before.flops, "flops after": after.flops},
        "cold": cold_report(colds),
        "cases": [case_report(bundle, profiles, result, ceilings) for result in results],
        "throughput": [
            throughput_report(throughput(stream, seconds), results[0].total)
            for stream, seconds in zip(streams, streamed, strict=True)
        ],
        "peers": compared,
        "failed": peers.failed,
    }


def _colds(options: dict[str, Any], case: Case) -> list[Cold]:
    begin = time.monotonic()
    colds = [first_picture(options, case)]
    while len(colds) < _COLD_PROCESSES and time.monotonic() - begin < _COLD_SECONDS:
        colds.append(first_picture(options, case))
    return colds


def _rounds(
    runs: int, benches: list[Bench], streams: list[StreamBench], peers: Peers, say: Any
) -> tuple[list[list[list[Run]]], list[list[tuple[float, int]]]]:
    """Every case's runs and every batch size's times, round by round; cases, batch sizes and peers take turns within
    each round.
    """
    say("warming up")
    for bench in benches:
        bench.warm_up()
    peers.warm_up()
    count = min(_ROUNDS, runs)
    found: list[list[list[Run]]] = [[] for _ in benches]
    streamed: list[list[tuple[float, int]]] = [[] for _ in streams]
    for i in range(count):
        turns = runs // count + (i < runs % count)
        for bench, rounds in zip(benches, found, strict=True):
            if len(benches) > 1 or streams:
                bench.warm_up()  # another size's buffers were bound
            rounds.append([bench.run() for _ in range(turns)])
        for stream, times in zip(streams, streamed, strict=True):
            stream.warm_up()
            times.append(stream.round(turns))
        peers.turns(turns)
        first = benches[0].case
        p50 = measured(first, found[0]).picture.p50
        say(f"round {i + 1} of {count}: {turns} pictures each, {first.label} so far {p50:.3f} s")
    return found, streamed


def _peers_stages(runs: Sequence[Run]) -> dict[str, float]:
    """Our median seconds in the stages that peers have."""
    groups = {
        "preprocess": ("preprocess",),
        "encode": ("encode", "condition"),
        "denoise": ("denoise", "noise", "start", "solver"),
        "decode": ("decode",),
        "color_fix": ("color_fix",),
    }
    middle = sorted(runs, key=lambda run: run.picture)[len(runs) // 2]
    return {stage: sum(middle.seconds(name) for name in names) for stage, names in groups.items()}
