"""Copies to and from GPUs, and processes, for tests. In: a native module. Out: tensors, arrays, what is printed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np

from tests.paths import REPOSITORY

# CUDA's codes
NO_IMAGE, INVALID_HANDLE, NOT_READY, LOST = 209, 400, 600, 700


def values(*shape: int, dtype: str = "float32") -> Any:
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


def up(native: Any, array: Any, device: str = "cuda") -> Any:
    tensor = native.Tensor(array.shape, str(array.dtype), device)
    stream = native.cuda.Stream(int(tensor.device.removeprefix("cuda:")))
    stream.copy(tensor, native.tensor_from(array))
    stream.synchronize()
    return tensor


def down(native: Any, tensor: Any) -> Any:
    stream = native.cuda.Stream(int(tensor.device.removeprefix("cuda:")))
    host = native.Tensor(tensor.shape, tensor.dtype)
    stream.copy(host, tensor)
    stream.synchronize()
    return np.array(host)


def in_a_process(native: Any, code: str) -> str:
    """What that code prints, whose `native` is the module."""
    head = f"from pathlib import Path; from tests.cuda_on_host.build import Machine, load; path = {native.__file__!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", head + "native, machine = load(Path(path)), Machine(Path(path))\n" + code],
        capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
