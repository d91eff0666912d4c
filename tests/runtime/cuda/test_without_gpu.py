"""The compiled module itself where there is no CUDA in it, or no GPU for it: real, and not the stand-in."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from runtime import _native
from tests.runtime.cuda.conftest import WITHOUT_GPU

without_cuda = pytest.mark.skipif(_native.cuda is not None, reason="runtime._native was compiled with CUDA")
without_gpu = pytest.mark.skipif(
    _native.cuda is None or not WITHOUT_GPU, reason="compiled without CUDA, or there is a GPU"
)


@without_cuda
def test_a_module_without_cuda() -> None:
    for device, where in (("cuda", "on cuda:0"), ("cuda:3", "on cuda:3"), ("pinned", "in pinned memory")):
        text = rf"allocating float32 \[2, 3\] {where}: this build of runtime\._native has no CUDA; put .* nvcc on PATH"
        with pytest.raises(_native.CudaError, match=text):
            _native.Tensor((2, 3), device=device)


@without_gpu
def test_a_machine_without_a_gpu() -> None:
    cuda: Any = _native.cuda
    for make in (
        lambda: _native.Tensor((2, 3), device="cuda"),
        lambda: _native.Tensor((2, 3), device="pinned"),
        cuda.Stream,
        lambda: cuda.memory(0),
        lambda: cuda.runs_on(0),
    ):
        with pytest.raises(_native.CudaError, match=r"(using cuda:0|in pinned memory): .* \(cudaError\w+\); .*"):
            make()
    assert cuda.architectures
    assert cuda.runtime_version >= (11, 8)


@pytest.mark.skipif(_native.cuda is None, reason="runtime._native was compiled without CUDA")
def test_the_cuda_runtime_is_nobody_elses() -> None:
    """Libraries with a CUDA runtime of their own must not come upon ours."""
    module = ctypes.CDLL(_native.__file__)
    for name in ("cudaMalloc", "cudaGetLastError", "__cudaRegisterFatBinary"):
        assert not hasattr(module, name)


def test_memory_of_the_cpu_needs_neither() -> None:
    tensor = _native.Tensor((2,), "uint8", device="cpu")
    assert (tensor.device, tensor.pinned, tensor.__dlpack_device__()) == ("cpu", False, (1, 0))
    with pytest.raises(
        ValueError, match=r"device: expected 'cpu', 'pinned', 'pinned:N', 'cuda' or 'cuda:N', got 'tpu'"
    ):
        _native.Tensor((2,), device="tpu")
    assert issubclass(_native.CudaError, RuntimeError)
