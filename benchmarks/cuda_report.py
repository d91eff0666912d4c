"""Registers, memory and wide accesses of every CUDA kernel on every GPU that is compiled for. Out: a page of tables.

python -m benchmarks.cuda_report [--out FILE] [--architectures 80 86 ...] [--sources FILE ...]

Needs nvcc. Exits with 1 where a kernel spills registers or has a stack frame: both are local memory, far slower.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

NATIVE = Path(__file__).parent.parent / "runtime" / "native"
ARCHITECTURES = ("80", "86", "89", "90", "120")
"""What cmake/cuda.cmake compiles for."""
FLAGS = ("-std=c++17", "-O3", "--fmad=false")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What ptxas says of one kernel on one GPU."""

    kernel: str
    architecture: str
    registers: int
    shared: int
    """Bytes of static shared memory."""
    stack: int
    spilled: int
    """Bytes that are stored and loaded."""


@dataclass(frozen=True, kw_only=True)
class Accesses:
    """Instructions of a kernel's PTX that move 16 bytes of global memory."""

    loads: int
    stores: int


def nvcc(*arguments: str) -> str:
    """What it writes to standard error.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(["nvcc", *FLAGS, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"nvcc {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stderr


def readable(mangled: str) -> str:
    """A kernel's name without scopes and parameters; c++filt comes with g++."""
    name = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
    name = name.removeprefix("void ").replace("(anonymous namespace)::", "").replace("dossr::", "")
    return name.split("(")[0].replace("unsigned char", "uint8").replace("unsigned short", "uint16")


def usages(log: str) -> list[Usage]:
    """Of ptxas's log of one source."""
    found = re.findall(
        r"Compiling entry function '(\w+)' for 'sm_(\w+)'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers(.*?)\n",
        log,
        re.DOTALL,
    )
    return [
        Usage(
            kernel=readable(kernel),
            architecture=architecture,
            registers=int(registers),
            shared=sum(map(int, re.findall(r"(\d+) bytes smem", rest))),
            stack=int(stack),
            spilled=int(stored) + int(loaded),
        )
        for kernel, architecture, stack, stored, loaded, registers, rest in found
    ]


def accesses(ptx: str) -> dict[str, Accesses]:
    """By kernels' names."""
    parts = re.split(r"\.entry (\w+)", ptx)[1:]
    return {
        readable(kernel): Accesses(
            loads=len(re.findall(r"ld\.global[.\w]*\.v4\.[bfu]32", body)),
            stores=len(re.findall(r"st\.global[.\w]*\.v4\.[bfu]32", body)),
        )
        for kernel, body in zip(parts[::2], parts[1::2], strict=True)
    }


def compiled(source: Path, architectures: Sequence[str]) -> tuple[list[Usage], dict[str, Accesses]]:
    codes = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in architectures]
    with tempfile.TemporaryDirectory() as folder:
        keep = ("--keep", f"--keep-dir={folder}")
        log = nvcc("-Xptxas=-v", *codes, *keep, "-c", str(source), "-o", f"{folder}/kernel.o")
        ptx = min(Path(folder).glob("*.ptx"))  # of any of the GPUs: they differ in what ptxas makes of it
        return usages(log), accesses(ptx.read_text())


def page(rows: Sequence[Usage], wide: dict[str, Accesses], architectures: Sequence[str]) -> str:
    version = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release [\d.]+, V([\d.]+)", version)
    columns = [
        "kernel",
        *(f"registers, sm_{name}" for name in architectures),
        *("shared memory", "spills", "stack", "16-byte loads", "16-byte stores"),
    ]
    lines = [
        "# CUDA kernels: registers, memory, wide accesses",
        "",
        f"`python -m benchmarks.cuda_report`, nvcc {release[1] if release else ''}, `{' '.join(FLAGS)}`.",
        "Compiled, not run. Bytes of static shared memory (`wavelet_fix_kernel` has 98,560 of dynamic shared memory",
        "beside), spills and stack are of all the GPUs the most; 16-byte loads and stores are instructions of the PTX.",
        "",
        f"| {' | '.join(columns)} |",
        "| --- |" + " ---: |" * (len(columns) - 1),
    ]
    for kernel in sorted({row.kernel for row in rows}):
        of = {row.architecture: row for row in rows if row.kernel == kernel}
        most = [
            max(sizes) for sizes in zip(*((row.shared, row.spilled, row.stack) for row in of.values()), strict=True)
        ]
        numbers = [*(of[name].registers for name in architectures), *most, wide[kernel].loads, wide[kernel].stores]
        lines.append(f"| {kernel} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the page's file; standard output unless given")
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES, help="compute capabilities without a dot")
    parser.add_argument("--sources", nargs="+", type=Path, default=sorted(NATIVE.glob("*.cu")))
    options = parser.parse_args(arguments)
    if not shutil.which("nvcc"):
        sys.exit("no nvcc on PATH: install the CUDA toolkit, or add its bin folder to PATH")
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda source: compiled(source, options.architectures), options.sources))
    rows = [row for usage, _ in parts for row in usage]
    wide = {kernel: count for _, counts in parts for kernel, count in counts.items()}
    text = page(rows, wide, options.architectures)
    if options.out:
        options.out.write_text(text)
    else:
        print(text, end="")
    bad = [row for row in rows if row.spilled or row.stack]
    for row in bad:
        where = f"{row.kernel} on sm_{row.architecture}"
        print(f"{where}: {row.spilled} bytes spilled, a stack frame of {row.stack} bytes", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
