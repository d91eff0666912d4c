"""DLPack with other libraries of GPUs, on a GPU and on its stand-in, where the other library is ourselves."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

from tests.cuda_on_host.build import Machine
from tests.runtime.cuda.transfers import LOST, down, up, values
from tests.runtime.test_native_tensor import Producer


class CudaProducer(Producer):
    """A DLPack producer of an array on a GPU, that keeps what it was asked."""

    def __init__(self, capsule: object, device: object = (2, 0)) -> None:
        super().__init__(capsule, device)
        self.asked: dict[str, object] = {}

    def __dlpack__(self, **asked: object) -> object:
        self.asked = asked
        return self.capsule


class OldProducer:
    """Knows nothing of DLPack 1.0."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __dlpack__(self, stream: int | None = None) -> object:
        return self.tensor.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


def test_arrays_of_other_libraries(native: Any) -> None:
    stream = native.cuda.Stream()
    for version, kind in (((1, 0), "dltensor_versioned"), (None, '"dltensor"')):
        tensor = up(native, values(4, 3))
        address = tensor.ptr
        capsule = tensor.__dlpack__(max_version=version)
        assert kind in repr(capsule)
        producer = CudaProducer(capsule)
        del tensor, capsule
        shared = native.cuda.from_dlpack(producer, stream)
        assert producer.asked == {"stream": stream.ptr, "max_version": (1, 0)}
        del producer
        gc.collect()
        assert (shared.shape, shared.dtype, shared.device, shared.ptr) == ((4, 3), "float32", "cuda:0", address)
        np.testing.assert_array_equal(down(native, shared.slice(1)), values(4, 3)[1])
    again = native.cuda.from_dlpack(OldProducer(shared), stream)
    assert again.ptr == shared.ptr
    stream.zero(again)
    assert not down(native, shared).any()
    assert native.cuda.from_dlpack(native.Tensor((0, 3), "int64", "cuda"), stream).shape == (0, 3)


def test_arrays_that_are_refused(native: Any) -> None:
    stream, tensor = native.cuda.Stream(), native.Tensor((2, 3), device="cuda")
    read = native.cuda.from_dlpack
    for wrong in (3, None, b"bytes"):
        with pytest.raises(TypeError, match="obj: expected an object with DLPack, got"):
            read(wrong, stream)
    with pytest.raises(BufferError, match=r"expected memory on cuda:0, .* device type 1 and index 0; move the array"):
        read(np.zeros(3, np.float32), stream)
    with pytest.raises(BufferError, match="device type 2 and index 5"):
        read(CudaProducer(tensor.__dlpack__(), (2, 5)), stream)
    for device in (None, (2,), ("cuda", 0), (2, "x")):
        with pytest.raises(TypeError, match="two integers"):
            read(CudaProducer(tensor.__dlpack__(), device), stream)
    capsule = tensor.__dlpack__()
    read(CudaProducer(capsule), stream)
    with pytest.raises(BufferError, match="no fresh DLPack capsule"):
        read(CudaProducer(capsule), stream)
    strided = torch.zeros(3, 2).T.__dlpack__()
    with pytest.raises(ValueError, match=r"expected a C-contiguous array, got a strided float32 \[2, 3\]; copy it"):
        read(CudaProducer(strided), stream)
    with pytest.raises(TypeError, match="dtype must be one of"):
        read(CudaProducer(torch.zeros(3, dtype=torch.bfloat16).__dlpack__()), stream)
    with pytest.raises(TypeError, match="incompatible"):
        read(tensor, None)


def test_device_tensors_for_other_libraries(on_host: Any, machine: Machine) -> None:
    tensor = up(on_host, values(2, 3))
    assert tensor.__dlpack_device__() == (2, 0)
    for stream in (None, 1, 2, 1 << 40):
        machine.fail("cudaDeviceSynchronize", LOST)
        with pytest.raises(on_host.CudaError, match="synchronizing cuda:0"):
            tensor.__dlpack__(stream=stream)
    machine.fail("cudaDeviceSynchronize", LOST)
    assert '"dltensor"' in repr(tensor.__dlpack__(stream=-1))
    machine.fail("", 0, 0)
    with pytest.raises(ValueError, match="stream: 0 could be either default stream"):
        tensor.__dlpack__(stream=0)
    for wrong, error in ((-2, ValueError), ("x", TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="stream: expected"):
            tensor.__dlpack__(stream=wrong)
    with pytest.raises(BufferError, match=r"the memory is on cuda:0, dl_device must be \(2, 0\)"):
        tensor.__dlpack__(dl_device=(1, 0))
    assert tensor.__dlpack__(dl_device=(2, 0))


def test_copies_for_other_libraries(native: Any) -> None:
    tensor, stream = up(native, values(2, 3)), native.cuda.Stream()
    copied = native.cuda.from_dlpack(CudaProducer(tensor.__dlpack__(copy=True, max_version=(1, 0))), stream)
    stream.zero(copied)
    np.testing.assert_array_equal(down(native, tensor), values(2, 3))


def test_a_gpu_of_torch(native: Any) -> None:
    if native.__name__ == "_native_on_host" or not torch.cuda.is_available():
        pytest.skip("torch has no GPU here")
    stream = native.cuda.Stream()
    theirs = torch.arange(6, dtype=torch.float32, device="cuda").reshape(2, 3) * 2
    ours = native.cuda.from_dlpack(theirs, stream)
    assert ours.ptr == theirs.data_ptr()
    np.testing.assert_array_equal(down(native, ours), theirs.cpu().numpy())
    back = torch.from_dlpack(ours)
    assert back.data_ptr() == theirs.data_ptr()
    assert back.device.type == "cuda"


def test_pinned_memory_for_other_libraries(native: Any) -> None:
    """It is given as the CPU's: torch 2.13 refuses kDLCUDAHost."""
    tensor = native.Tensor((2, 3), device="pinned")
    tensor.fill(5)
    assert tensor.__dlpack_device__() == (1, 0)
    for view in (np.asarray(tensor), np.from_dlpack(tensor), torch.from_dlpack(tensor).numpy()):
        assert view.ctypes.data == tensor.ptr
        assert (view == 5).all()
    with pytest.raises(BufferError, match="stream must be None"):
        tensor.__dlpack__(stream=1)
    assert np.from_dlpack(tensor, copy=True).ctypes.data != tensor.ptr
