"""Every function for GPUs, called with odd objects in every place, on the stand-in: a crash or a hang is an error.

This file is also the program that does so in a process of its own, which the test starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cuda_on_host.build import load
from tests.paths import REPOSITORY
from tests.runtime.test_native_odd_objects import Calls, probe


def calls(native: Any) -> Calls:
    """Functions with arguments that they accept."""
    cuda = native.cuda

    def new(*shape: int, dtype: str = "float32") -> Any:
        return native.Tensor(shape, dtype, "cuda")

    stream, event = cuda.Stream(), cuda.Stream().record()
    stream.begin_capture()
    graph = stream.end_capture()
    planes, half, pixels = (
        [new(1, 3, 2, 2) for _ in range(8)],
        new(1, 3, 2, 2, dtype="float16"),
        new(2, 2, 3, dtype="uint8"),
    )
    table = {"plan": new(2, 12), "seed": new(1, dtype="int64"), "timestep": new(1), "largest": new(3)}
    work = native.Tensor((cuda.adain_work((1, 3, 2, 2)),), "float64", "cuda")
    sides = [new(2), new(2)]

    def dlpack(stream: Any, max_version: Any, dl_device: Any, copy: Any) -> object:
        return planes[0].__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    return [
        (native.Tensor, [(2, 3), "float32", "cuda:1"]),
        (planes[0].slice, [0]),
        (dlpack, [2, (1, 0), (2, 0), False]),
        (cuda.memory, [0]),
        (cuda.runs_on, [0]),
        (cuda.from_dlpack, [planes[0], stream]),
        (cuda.Stream, [0]),
        (cuda.Stream.copy, [stream, *planes[:2]]),
        (cuda.Stream.zero, [stream, planes[0]]),
        (cuda.Stream.record, [stream]),
        (cuda.Stream.wait, [stream, event]),
        (cuda.Stream.synchronize, [stream]),
        (cuda.Event.synchronize, [event]),
        (cuda.Event.seconds_since, [event, event]),
        (cuda.Graph.launch, [graph, stream]),
        (cuda.cast, [stream, planes[0], half]),
        (cuda.philox_normal, [stream, planes[0], table["seed"], 0, 0, 0]),
        (cuda.start, [stream, *planes[:4], planes[4:6], *table.values()]),
        (cuda.solver_step, [stream, *planes[:3], planes[3:6], planes[6], table["plan"], 1, *list(table.values())[1:]]),
        (cuda.image_to_planar, [stream, pixels, planes[0], 0]),
        (cuda.planar_to_image, [stream, planes[0], pixels, table["largest"], 0, 0]),
        (cuda.wavelet_fix, [stream, *planes[:3]]),
        (cuda.adain_work, [(1, 3, 2, 2)]),
        (cuda.adain_fix, [stream, *planes[:3], work]),
        (cuda.tile_blend, [stream, *planes[:2], *sides, 0, 0, 0]),
        (cuda.crop_to_planar, [stream, pixels, 0, 0, planes[0], 0]),
        (cuda.tile_take, [stream, *planes[:2], 0, 0, 0]),
        (cuda.match_planes, [stream, planes[0], native.Tensor((3, 3), "float32", "cuda")]),
    ]


def test_odd_objects_do_not_crash(on_host: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.runtime.cuda.test_odd_objects"],
        capture_output=True, text=True, timeout=300, check=False, cwd=REPOSITORY,
        env={**os.environ, "DOSSR_ON_HOST": on_host.__file__},
    )  # fmt: skip
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-2000:]}"
    made, refused = map(int, done.stdout.split())
    assert made > 5000
    assert refused > made // 2


if __name__ == "__main__":
    print(*probe(calls(load(Path(os.environ["DOSSR_ON_HOST"])))))
