"""Stand-ins for NVIDIA's driver libraries, for machines without: two GPUs that answer questions and compute nothing.

They are loaded by a child process through LD_LIBRARY_PATH, as the real ones would be. What they answer is chosen by
environment variables of the child: STANDIN_INIT (cuInit's code), STANDIN_CUDA (13000), STANDIN_DEVICES (numbers of the
GPUs in CUDA's order, as CUDA_VISIBLE_DEVICES makes it: "0,1"). NVML always counts 0, 1.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

GIB = 1 << 30
NAMES = ("Stand-in H100", "Stand-in T4")
MEMORY, FREE = (80 * GIB, 16 * GIB), (79 * GIB, 2 * GIB)

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc, which makes the stand-ins")

_COMMON = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int number(const char *name, int otherwise) { const char *s = getenv(name); return s ? atoi(s) : otherwise; }
"""
_CUDA = (
    _COMMON
    + r"""
static const char *names[] = {"Stand-in H100", "Stand-in T4"};
static const size_t gib[] = {80, 16};
static const int capability[2][2] = {{9, 0}, {7, 5}};
static int which[8];
int cuInit(unsigned flags) { (void)flags; return number("STANDIN_INIT", 0); }
int cuGetErrorName(int code, const char **name) {
    *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : NULL;
    return code == 100 ? 0 : 1;
}
int cuDriverGetVersion(int *version) { *version = number("STANDIN_CUDA", 13000); return 0; }
int cuDeviceGetCount(int *count) {
    const char *s = getenv("STANDIN_DEVICES");
    *count = 0;
    for (s = s ? s : "0,1"; *s; ++s) if (*s != ',') which[(*count)++] = *s - '0';
    return 0;
}
int cuDeviceGet(int *device, int index) { *device = which[index]; return 0; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "%s", names[device]); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = gib[device] << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? capability[device][0] : attribute == 76 ? capability[device][1] : -1;
    return 0;
}
#ifndef OLD
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 0xa0 + device, 16); return 0; }
#endif
"""
)
_NVML = (
    _COMMON
    + r"""
static const unsigned long long free_gib[] = {79, 2}, all_gib[] = {80, 16};
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.95.05"); return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    const char *known[] = {"GPU-a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0", "MIG-a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1"};
    for (long i = 0; i < 2; ++i) if (!strcmp(uuid, known[i])) { *handle = (void *)(i + 1); return 0; }
    return 6;
}
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory) {
    long i = (long)handle - 1;
    memory[0] = all_gib[i] << 30; memory[1] = free_gib[i] << 30; memory[2] = memory[0] - memory[1];
    return 0;
}
"""
)


def build_driver(folder: Path, *options: str, nvml: bool = True) -> Path:
    """The folder with libcuda.so.1 and, on request, libnvidia-ml.so.1; `options` go to the compiler (-DOLD: a driver
    before 11.4)."""
    _compile(folder / "libcuda.so.1", _CUDA, *options)
    if nvml:
        _compile(folder / "libnvidia-ml.so.1", _NVML)
    return folder


def build_stranger(folder: Path) -> Path:
    """A libcuda.so.1 that is no driver."""
    _compile(folder / "libcuda.so.1", "int cuInit(unsigned flags) { return (int)flags; }")
    return folder


def with_driver(folder: Path, **answers: object) -> dict[str, str]:
    """Environment of a child that finds the folder's libraries; answers as "init", "cuda", "devices"."""
    return {"LD_LIBRARY_PATH": str(folder)} | {f"STANDIN_{name.upper()}": str(a) for name, a in answers.items()}


def _compile(out: Path, source: str, *options: str) -> None:
    command = ["gcc", "-x", "c", "-", "-shared", "-fPIC", "-o", str(out), *options]
    subprocess.run(command, input=source, text=True, check=True, env=os.environ | {"LC_ALL": "C"})
