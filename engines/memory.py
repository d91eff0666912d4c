"""Sizes of memory. In: text such as "10GiB", or the machine's own figures. Out: bytes, and bytes in words."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from engines.errors import SettingsError

_UNITS = {"": 1, "b": 1} | {
    letter + suffix: base**power
    for power, letter in enumerate("kmgt", start=1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}
_LARGEST = 1 << 60
_CGROUPS = (
    # files of one control group: its limit, its use, and which counts of memory.stat the kernel can take back
    ("memory.max", "memory.current", ("inactive_file", "active_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)
"""Version 2, then version 1."""


def parse_size(text: str) -> int:
    """Bytes from "10GiB", "8 GB", "1.5GiB" or "9000000000"; kB, MB, GB, TB are powers of 1000, KiB to TiB of 1024.

    Raises:
        SettingsError: not a number with one of these units, less than one byte, or 2^60 and more.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    unit = _UNITS.get(match[2].lower()) if match else None
    size = int(float(match[1]) * unit) if match and unit and len(match[1]) < 30 else 0
    if match and match[1].isdigit() and unit and size:
        size = int(match[1]) * unit  # exact, where a float is not
    if not 1 <= size < _LARGEST:
        raise SettingsError(
            f"{text[:40]!r} is not a size of memory, expected bytes or a number with a unit kB, MB, GB, TB, KiB, MiB, "
            "GiB or TiB; write it like 10GiB, 8GB or 9000000000"
        )
    return size


def format_size(n: int) -> str:
    """Bytes in words, for people: 8.5 GiB, 640 MiB, 12 bytes."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(n) >= 1024**power:
            value = n / 1024**power
            return f"{value:.1f} {unit}" if abs(value) < 99.95 else f"{value:.0f} {unit}"
    return f"{n} bytes"


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can take without swapping: the machine's available memory, or what its control groups
    leave (Linux, versions 1 and 2), whichever is smaller; elsewhere the machine's whole memory. `root` holds proc and
    sys.
    """
    return min([_machine(root), *_left_in_cgroups(root)])


def trim_heap() -> None:
    """Gives freed memory back to the kernel: glibc keeps blocks of up to 32 MiB for itself."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library has no such call
            ctypes.CDLL(None).malloc_trim(0)


def resident_memory() -> int:
    """The memory that this process holds now, in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def peak_memory() -> int:
    """The most memory that this process has held, in bytes; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024  # ru_maxrss would hold the parent's, too
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _machine(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable" and value.split()[:1] and value.split()[0].isdigit():
            return int(value.split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_cgroups(root: Path) -> Iterator[int]:
    """What each group leaves, from the process's own to the mount's top; in a container only the top is visible."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            mount = root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
        else:
            continue
        folder = mount / path.lstrip("/")
        while folder.is_relative_to(mount):
            for names in _CGROUPS:
                if (left := _left(folder, *names)) is not None:
                    yield left
            folder = folder.parent


def _left(folder: Path, limit_name: str, used_name: str, reclaimable: tuple[str, ...]) -> int | None:
    limit, used = ("".join(_lines(folder / name)) for name in (limit_name, used_name))
    if not limit.isdigit() or not used.isdigit() or int(limit) >= _LARGEST:  # "max", or version 1's way to say it
        return None
    stat = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat") if " " in line)
    cached = sum(int(stat.get(name, "0")) for name in reclaimable)
    return max(0, int(limit) - max(0, int(used) - cached))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
