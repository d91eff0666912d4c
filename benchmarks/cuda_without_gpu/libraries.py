"""Stand-ins for the CUDA libraries that onnxruntime-gpu loads, so that its CUDA provider opens sessions without a GPU.

    python benchmarks/cuda_without_gpu/libraries.py PYTHON FOLDER
    LD_LIBRARY_PATH=FOLDER PYTHON ...

PYTHON is an interpreter with onnxruntime-gpu. Needs gcc, nm and CUDA's headers. Kernels do nothing, libraries answer 0:
what can be seen is where nodes are placed, what is launched and in what order; no result and no time. Convolutions
cannot run, as cuDNN finds no algorithm.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HEADERS = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"
RUNTIME = "libcudart.so.13"
DRIVER = {
    "cuInit": "unsigned flags) { return 0;",
    "cuDriverGetVersion": "int *v) { *v = 13000; return 0;",
    "cuDeviceGetCount": "int *n) { *n = 1; return 0;",
    "cuDeviceGet": "int *d, int i) { *d = i; return 0;",
    "cuDeviceGetName": 'char *s, int n, int d) { strncpy(s, "stand-in", n); return 0;',
    "cuDeviceTotalMem_v2": "size_t *m, int d) { *m = 80ull << 30; return 0;",
    "cuDeviceGetAttribute": "int *v, int a, int d) { *v = a == 75 ? 9 : 0; return 0;",
    "cuDeviceGetUuid_v2": "char *u, int d) { memset(u, 0, 16); return 0;",
}
CUDNN = {
    "cudnnGetVersion": "void) { return 91400;",
    "cudnnBackendCreateDescriptor": "int t, void **p) { *p = malloc(8); return 0;",
    "cudnnBackendGetAttribute": "void *d, int a, int t, long n, long *c, void *v) { if (c) *c = 0; return 0;",
    "cudnnGetLastErrorString": "char *m, size_t n) { if (n) *m = 0; return 0;",
    "cudnnSetStream": "void) { return 0;",
    "cudnnDestroy": "void) { return 0;",
}


def main() -> None:
    python, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    code = "import onnxruntime; print(onnxruntime.__file__)"
    module = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    provider = Path(module).parent / "capi" / "libonnxruntime_providers_cuda.so"
    listing = subprocess.run(["nm", "-D", "--undefined-only", provider], capture_output=True, text=True, check=True)
    wanted: dict[str, list[str]] = {"libcuda.so.1": [], RUNTIME: []}
    for name in re.findall(r" U (\S+)", listing.stdout):
        symbol, _, library = name.partition("@")
        if re.match("_*cu", symbol):
            wanted.setdefault(library.lstrip("@") or "libcuda.so.1", []).append(symbol)
    runtime = (HERE / "cudart.c").read_text()
    rest = [s for s in wanted.pop(RUNTIME) if not re.search(rf"\b{s}\(", runtime)]
    (folder / "rest.c").write_text(answers(rest, {}))
    compile_library(folder, RUNTIME, HERE / "cudart.c", folder / "rest.c", version=RUNTIME)
    for library, symbols in wanted.items():
        own = DRIVER if library == "libcuda.so.1" else {}
        version = None if own else library
        (folder / "rest.c").write_text(answers([*symbols, *own], own))
        compile_library(folder, library, folder / "rest.c", version=version)
    text = subprocess.run(["strings", provider], capture_output=True, text=True, check=True).stdout
    cudnn = set(re.findall(r"^cudnn[A-Z]\w+$", text, re.M)) | CUDNN.keys() | {"cudnnCreate"}
    (folder / "rest.c").write_text(answers(sorted(cudnn), CUDNN))
    compile_library(folder, "libcudnn.so.9", folder / "rest.c")
    (folder / "rest.c").write_text("")
    compile_library(folder, "libcurand.so.10", folder / "rest.c")
    (folder / "rest.c").unlink()


def answers(symbols: list[str], own: dict[str, str]) -> str:
    """Functions that log their names and answer 0; those that create something write a handle."""
    lines = ["#include <stdlib.h>", "#include <string.h>", "void standin_log(const char *, ...);"]
    for symbol in dict.fromkeys(symbols):
        if symbol in own:
            lines.append(f"long {symbol}({own[symbol]} }}")
        elif symbol.endswith(("StatusName", "StatusString", "ErrorString")):
            lines.append(f'const char *{symbol}() {{ return "stand-in"; }}')
        elif "Create" in symbol:
            lines.append(
                f"long {symbol}(void **p) {{ standin_log({symbol!r}); *p = malloc(8); return 0; }}".replace("'", '"')
            )
        elif symbol == "cublasLtMatmulAlgoGetHeuristic":
            lines.append(f"long {symbol}() {{ return 15; }}")
        else:
            lines.append(f"long {symbol}() {{ standin_log({symbol!r}); return 0; }}".replace("'", '"'))
    return "\n".join(lines) + "\n"


def compile_library(folder: Path, library: str, *sources: Path, version: str | None = None) -> None:
    command = ["gcc", "-shared", "-fPIC", "-w", "-O1", f"-I{HEADERS}", "-o", folder / library, *sources]
    command += [f"-Wl,-soname,{library}"]
    if version:
        script = folder / "versions.map"
        script.write_text(f"{version} {{ global: *; }};\n")
        command += [f"-Wl,--version-script={script}"]
    if library != RUNTIME:
        command += [f"-L{folder}", f"-l:{RUNTIME}", "-Wl,-rpath,$ORIGIN"]
    subprocess.run(command, check=True)
    (folder / "versions.map").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
