"""A first picture in a process of its own: load time, cold first picture, peak memory. In: settings. Out: `Cold`.

    python -m runtime.bench.cold '{"bundle": ..., "width": 128, ...}'

is that process; it prints one line of JSON. Files of the bundle may be in the page cache: cold is the process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from engines.errors import EngineError
from runtime.bench.machine import gpu_memory_of
from runtime.bench.measure import Case


@dataclass(frozen=True, kw_only=True)
class Cold:
    """Of one process."""

    start: float
    """Seconds from the process's start until `runtime.Upscaler` is imported."""
    load: float
    """Seconds of opening the bundle."""
    first: float
    """Seconds of the first picture, the whole call."""
    peak_memory: int
    """Bytes: the most that the process held."""
    gpu_memory: int | None
    """Bytes on the GPU at the end; None without one."""


def first_picture(options: dict[str, Any], case: Case) -> Cold:
    """Opens the bundle and restores one picture in a fresh process.

    Args:
        options: arguments of `runtime.Upscaler`.
        case: what to restore.

    Raises:
        EngineError: the process failed; the text holds its last line.
    """
    task = json.dumps({"options": options, "case": asdict(case), "started": time.time()})
    command = [sys.executable, "-m", "runtime.bench.cold", task]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EngineError(f"the process of the first picture failed: {said[-1].removeprefix('error: ')}")
    return Cold(**json.loads(done.stdout.strip().splitlines()[-1]))


def main(task: dict[str, Any]) -> int:
    """The process's own work."""
    from engines.memory import peak_memory
    from runtime.bench.photo import picture_file
    from runtime.upscaler import Upscaler

    case = Case(**task["case"])
    photo = picture_file(case.width, case.height)
    start = time.time() - task["started"]
    begin = time.perf_counter()
    with Upscaler(**task["options"]) as upscaler:
        load = time.perf_counter() - begin
        begin = time.perf_counter()
        upscaler(photo, steps=case.steps, order=case.order, tile=None)
        first = time.perf_counter() - begin
        memory = gpu_memory_of()
    cold = Cold(start=start, load=load, first=first, peak_memory=peak_memory(), gpu_memory=memory)
    print(json.dumps(asdict(cold)))
    return 0


if __name__ == "__main__":
    from engines.cli import run_command

    sys.exit(run_command(lambda arguments: main(json.loads(arguments[0]))))
