"""The other end of `runtime.bench.peers`. In: a JSON line, the task, then a line for each turn. Out: a JSON line each.

    {"peer": "eager", "setup": {...}, "plan": {...}, "seed": 42, "photo": FILE, "result": FILE}

The first answer says that all is loaded; the first turn's picture is written to `result`. The task of the peer
"context" is to compute the prompt's embedding of a checkpoint into the file `result`: the text encoder, which only
PyTorch would load, then weighs on no one's memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from engines.memory import peak_memory
from export.build_options import DEMO_FILES
from export.context import KEY
from export.peers.networks import PEERS, Setup
from export.peers.restore import restore
from export.quiet import quietly
from export.source import open_source
from solvers import Plan
from solvers.plan import Step


def serve(task: dict[str, Any], turns: TextIO, answers: TextIO) -> int:
    """Loads, says so, then restores once for each line of `turns`.

    Raises:
        DossrError: the peer is not on this machine, or its checkpoint cannot be used.
    """
    with quietly():
        setup = _setup(task["setup"])
        if task["peer"] == "context":
            assert setup.checkpoint is not None
            context = open_source(setup.checkpoint, setup.config, None).context
            save_file({KEY: context[0].contiguous()}, task["result"])
            _answer(answers, {})
            return 0
        torch.set_num_threads(setup.threads)
        begin = time.perf_counter()
        networks = PEERS[task["peer"]](setup)
        _answer(answers, {"description": networks.description, "load": time.perf_counter() - begin} | _memory())
        plan = plan_from(task["plan"])
        pixels = np.asarray(Image.open(task["photo"]).convert("RGB"))
        image = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255).to(networks.device)
        result: Path | None = Path(task["result"])
        for _ in turns:
            begin = time.perf_counter()
            done = restore(networks, image, plan, task["seed"])
            seconds = time.perf_counter() - begin
            if result is not None:
                rounded = (done.image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8)
                Image.fromarray(rounded.cpu().numpy()).save(result, "PNG")
                result = None
            _answer(answers, {"seconds": seconds, "timings": done.timings} | _memory())
    return 0


def plan_from(raw: dict[str, Any]) -> Plan:
    """The plan that `dataclasses.asdict` and JSON made into `raw`."""
    steps = tuple(Step(**step | {"c_p": tuple(step["c_p"])}) for step in raw["steps"])
    return Plan(**raw | {"steps": steps, "start": tuple(raw["start"]), "timesteps": tuple(raw["timesteps"])})


def _setup(raw: dict[str, Any]) -> Setup:
    paths = {key: None if raw[key] is None else Path(raw[key]) for key in ("checkpoint", "config", "context")}
    if raw["demo"] and paths["checkpoint"] is None:
        paths = dict(zip(paths, DEMO_FILES, strict=True))
    return Setup(bundle=Path(raw["bundle"]), device=raw["device"], threads=raw["threads"], **paths)


def _memory() -> dict[str, int | None]:
    """Bytes: the most that the process held, and that torch held on the GPU."""
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"peak_memory": peak_memory(), "gpu_memory": gpu}


def _answer(answers: TextIO, found: dict[str, Any]) -> None:
    print(json.dumps(found), file=answers, flush=True)


def main(_arguments: Sequence[str]) -> int:
    """Serves on the standard streams."""
    import sys

    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not stand among the answers
    return serve(json.loads(sys.stdin.readline()), sys.stdin, answers)
