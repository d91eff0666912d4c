"""What a report says about the machine. In: this machine. Out: processor, GPU, clocks, versions; None if unknown."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.memory import available_memory
from engines.ort import usable_cores

Facts = dict[str, str | int | float | None]
_GPU = {
    "name": "name",
    "driver": "driver_version",
    "memory": "memory.total",
    "compute capability": "compute_cap",
    "SM clock": "clocks.sm",
    "SM clock, most": "clocks.max.sm",
    "memory clock": "clocks.mem",
    "power limit": "power.limit",
    "performance state": "pstate",
    "temperature": "temperature.gpu",
}
"""Our words to nvidia-smi's."""
_BUSY = 0.5
"""Load of the last minute, for each core, from which a machine counts as busy."""
_PACKAGES = ("dossr-deploy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "pillow", "torch", "diffusers", "openvino")


def machine(root: Path = Path("/")) -> dict[str, Facts | list[Facts]]:
    """All facts. `root` holds proc and sys."""
    return {"processor": processor(root), "system": system(root), "gpus": gpus(), "versions": versions()}


def processor(root: Path = Path("/")) -> Facts:
    """Model, cores, clocks as they are now, and how they are governed."""
    fields = dict(_cpuinfo(root))
    governors = {_read(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    clock = fields.get("cpu MHz")
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "cores usable": usable_cores(),
        "clock now, MHz": float(clock) if clock else None,
        "governor": ", ".join(sorted(g for g in governors if g)) or None,
        "vector instructions": ", ".join(
            f for f in ("avx2", "avx512f", "amx_tile") if f in fields.get("flags", "").split()
        )
        or None,
    }


def system(root: Path = Path("/")) -> Facts:
    """Kernel, memory, and how busy the machine was in the last minute: what is measured on a busy one says little."""
    load = _read(root / "proc/loadavg")
    return {
        "system": platform.platform(),
        "memory available": available_memory(root),
        "load of the last minute": float(load.split()[0]) if load else None,
    }


def busy(facts: Any) -> str:
    """A sentence where something else was running while a report was made, else ""."""
    load, cores = facts["system"].get("load of the last minute"), facts["processor"]["cores usable"]
    if load is None or load < _BUSY * cores:
        return ""
    return f"The machine was busy (load {load:g} on {cores} cores when this began): these times say little."


def gpus() -> list[Facts]:
    """Of each NVIDIA GPU what nvidia-smi says; clocks are those of the moment."""
    lines = _smi(f"--query-gpu={','.join(_GPU.values())}", "--format=csv,noheader")
    return [dict(zip(_GPU, (word.strip() for word in line.split(",")), strict=False)) for line in lines]


def gpu_memory_of(process: int | None = None) -> int | None:
    """Bytes of GPU memory that a process holds, ours where None is given; None where nobody says."""
    wanted = os.getpid() if process is None else process
    for line in _smi("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"):
        pid, _, used = line.partition(",")
        if pid.strip() == str(wanted) and used.strip().isdigit():
            return int(used) << 20
    return None


def versions() -> Facts:
    """Of Python and the packages that take part, where they are installed."""
    found: Facts = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _smi(*options: str) -> list[str]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        done = subprocess.run([command, *options], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _cpuinfo(root: Path) -> Iterator[tuple[str, str]]:
    """The first processor's fields."""
    for line in (_read(root / "proc/cpuinfo") or "").partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
