"""Checks of the machine. In: what is asked for, and the probes. Out: findings on system, driver and GPUs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

from engines.memory import format_size
from engines.nvidia import OR_CPU, Driver, Gpu
from engines.ort import usable_cores
from runtime.doctor.findings import Asked, Finding, Mark, Remedy
from runtime.doctor.probing import Answer, Probes

CUDA = (13, 0)
"""The CUDA version that the compiled module and onnxruntime-gpu 1.31 and newer are built with."""
_OLDEST = (7, 5)
"""Compute capability from which CUDA 13 supports GPUs."""


def system(_asked: Asked, _probes: Probes) -> Iterator[Finding]:
    """Python, the system, and the cores that may be used."""
    python, cores = platform.python_version(), usable_cores()
    yield Finding(
        key="system",
        mark=Mark.OK,
        text=f"Python {python}, {platform.platform()}, {cores} of {os.cpu_count()} cores",
        facts={"python": python, "platform": platform.platform(), "cores": cores, "machine": platform.machine()},
    )


def driver(_asked: Asked, probes: Probes) -> Iterator[Finding]:
    """The NVIDIA driver, and each GPU."""
    answer = probes.answer("driver")
    if answer.message:
        yield _no_driver(answer)
        return
    found = _driver_of(answer)
    native = probes.answer("native")
    runtime = tuple(native.facts.get("cuda", CUDA))
    known = found.supports((runtime[0], runtime[1]))
    words = f"NVIDIA driver {found.release or 'of unknown release'}, CUDA {_dotted(found.version)}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        words += f"; CUDA_VISIBLE_DEVICES={visible}"
    if not known:
        words += f"; too old for CUDA {_dotted(runtime)}, which needs release 580 or newer"
    yield Finding(
        key="driver",
        mark=Mark.OK if known else Mark.WARNING,
        text=words,
        facts={"release": found.release, "cuda": list(found.version), "new_enough": known, "visible": visible},
        remedies=() if known else (Remedy(aim="CUDA 13", command="update NVIDIA's driver to release 580 or newer"),),
    )
    for gpu in found.gpus:
        yield _gpu(gpu, native)


def _no_driver(answer: Answer) -> Finding:
    """From the error of `engines.nvidia`, which says what is wrong, a semicolon, and what to do."""
    what, _, advice = answer.message.rpartition("; ")
    if answer.error != "EngineUnavailableError":
        what, advice = f"asking the NVIDIA driver {answer.error} {answer.message}", "see whether `nvidia-smi` works"
    return Finding(
        key="driver",
        mark=Mark.MISSING if "does not load" in what else Mark.WARNING,
        text=what,
        facts={"error": answer.message},
        remedies=(Remedy(aim="an NVIDIA GPU", command=advice.removesuffix(f", {OR_CPU}")),),
    )


def _gpu(gpu: Gpu, native: Answer) -> Finding:
    old = gpu.compute_capability < _OLDEST
    runs: bool | None = native.facts.get("runs_on", {}).get(str(gpu.index))
    code = {True: ", our kernels have code for it", False: ", our kernels have no code for it", None: ""}[runs]
    free = f"{format_size(gpu.free)} of " if gpu.free is not None else ""
    return Finding(
        key=f"gpu.{gpu.index}",
        mark=Mark.WARNING if old or runs is False else Mark.OK,
        text=f"cuda:{gpu.index} {gpu.name}, compute capability {_dotted(gpu.compute_capability)}, {free}"
        f"{format_size(gpu.memory)}{' free' if free else ''}{code}{'; CUDA 13 does not support it' if old else ''}",
        facts={
            "name": gpu.name,
            "compute_capability": list(gpu.compute_capability),
            "memory": gpu.memory,
            "free": gpu.free,
            "kernels": runs,
        },
    )


def _driver_of(answer: Answer) -> Driver:
    """As the probe had it, before JSON."""
    gpus = [Gpu(**gpu | {"compute_capability": tuple(gpu["compute_capability"])}) for gpu in answer.facts["gpus"]]
    version = answer.facts["version"]
    return Driver(version=(version[0], version[1]), release=answer.facts["release"], gpus=tuple(gpus))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
