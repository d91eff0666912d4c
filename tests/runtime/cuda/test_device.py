"""Tensors in device and pinned memory, on a GPU and on its stand-in.

What a machine lacks (GPUs, a driver, memory) and what CUDA refuses is shown by the stand-in.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.cuda_on_host.build import Machine
from tests.runtime.cuda.transfers import INVALID_HANDLE, LOST, NO_IMAGE, down, in_a_process, up, values
from tests.runtime.test_native_tensor import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (1, 3, 5, 7)])
def test_device_memory_is_zeroed_and_aligned(native: Any, dtype: str, shape: tuple[int, ...]) -> None:
    tensor = native.Tensor(shape, dtype, device="cuda")
    expected = np.zeros(shape, dtype)
    assert (tensor.shape, tensor.dtype, tensor.size, tensor.nbytes) == (shape, dtype, expected.size, expected.nbytes)
    assert (tensor.device, tensor.pinned) == ("cuda:0", False)
    assert tensor.ptr
    assert tensor.ptr % 64 == 0
    np.testing.assert_array_equal(down(native, tensor), expected)
    assert repr(tensor) == f"Tensor({dtype} {list(shape)} on cuda:0)"


@pytest.mark.parametrize("dtype", DTYPES)
def test_pinned_memory_is_memory_of_the_cpu(native: Any, dtype: str) -> None:
    tensor = native.Tensor((2, 3), dtype, "pinned")
    assert (tensor.device, tensor.pinned, tensor.slice(1).pinned) == ("cpu", True, True)
    assert tensor.ptr % 64 == 0
    assert not np.asarray(tensor).any()
    tensor.fill(7)
    assert np.array_equal(np.asarray(tensor), np.full((2, 3), 7, dtype))
    tensor.copy_from(values(2, 3, dtype=dtype))
    assert np.array_equal(native.tensor_from(tensor), values(2, 3, dtype=dtype))
    assert not native.Tensor((2, 3), dtype).pinned


def test_copies_there_and_back(native: Any) -> None:
    for dtype in DTYPES:
        array = values(3, 5, dtype=dtype)
        stream = native.cuda.Stream()
        here, pinned = native.tensor_from(array), native.Tensor((3, 5), dtype, "pinned")
        first, second = (native.Tensor((3, 5), dtype, "cuda") for _ in range(2))
        stream.copy(first, here)
        stream.copy(second, first)
        stream.copy(pinned, second)
        stream.synchronize()
        np.testing.assert_array_equal(np.asarray(pinned), array)
        stream.zero(second.slice(1))
        array[1] = 0
        np.testing.assert_array_equal(down(native, second), array)
    empty = native.Tensor((0, 3), device="cuda")
    stream.copy(empty, native.Tensor((0, 3)))
    stream.zero(empty)


def test_slices_share_device_memory_and_keep_it_alive(native: Any) -> None:
    parent = up(native, values(3, 2, 2))
    item = parent.slice(-1)
    assert (item.device, item.ptr, item.shape) == ("cuda:0", parent.ptr + 32, (2, 2))
    del parent
    gc.collect()
    native.Tensor((3, 2, 2), device="cuda")
    np.testing.assert_array_equal(down(native, item), values(3, 2, 2)[2])


def test_memory_is_given_back(on_host: Any, machine: Machine) -> None:
    before = machine.alive()
    stream = on_host.cuda.Stream()
    tensors = [on_host.Tensor((4,), device=device) for device in ("cuda:0", "cuda:1", "pinned")]
    stream.begin_capture()
    stream.zero(tensors[0])
    event, graph = stream.record(), stream.end_capture()
    assert machine.alive() == before + 6
    del stream, tensors, event, graph
    gc.collect()
    assert machine.alive() == before


def test_memory_can_be_given_back_within_a_capture(on_host: Any, machine: Machine) -> None:
    before = machine.alive()
    kept, stream = on_host.Tensor((4,), device="cuda"), on_host.cuda.Stream()
    tensors = [on_host.Tensor((4,), device=device) for device in ("cuda", "pinned")]
    stream.begin_capture()
    del tensors
    stream.zero(kept)
    stream.end_capture()
    assert machine.alive() == before + 2


@pytest.mark.parametrize(
    "device", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:10000", "cuda:1 ", "cpu:0", "pinned:"]
)
def test_devices_that_there_are_not(native: Any, device: str) -> None:
    with pytest.raises(
        ValueError, match=f"device: expected 'cpu', 'pinned', 'pinned:N', 'cuda' or 'cuda:N', got '{device}'"
    ):
        native.Tensor((1,), device=device)


def test_a_cpu_does_not_get_at_device_memory(native: Any) -> None:
    tensor = native.Tensor((2, 3), device="cuda")
    for touch in (
        memoryview,
        np.asarray,
        native.tensor_from,
        lambda t: t.fill(1),
        lambda t: t.copy_from(values(2, 3)),
        lambda t: t.__array_interface__,
        lambda t: native.Tensor((2, 3)).copy_from(t),
    ):
        with pytest.raises(BufferError, match=r"float32 \[2, 3\] on cuda:0; .*Stream\.copy"):
            touch(tensor)


def test_functions_of_the_cpu_refuse_device_memory(native: Any) -> None:
    def image(side: int = 2) -> Any:
        return native.Tensor((1, 3, side, side))

    pixels, half, one = native.Tensor((2, 2, 3), "uint8"), native.Tensor((1, 3, 2, 2), "float16"), native.Tensor((2,))
    deep = native.Tensor((2, 2, 3), "uint16")
    calls: list[tuple[Callable[..., object], list[Any], list[Any]]] = [
        (native.philox_normal, [image()], [0, 0]),
        (native.TorchCpuGenerator(0).normal, [image()], []),
        (native.start, [image() for _ in range(6)], [1, 1]),
        (
            lambda x, o, h, p, n: native.solver_step(x, o, h, [p], n, 1, 1, 1, 1, 1, [1], 1),
            [image() for _ in range(5)],
            [],
        ),
        (lambda out: native.image_to_planar(pixels, out), [image()], []),
        (native.planar_to_image, [image(), pixels], []),
        (native.change_depth, [pixels, deep], []),
        (native.wavelet_fix, [image(), image()], []),
        (native.adain_fix, [image(), image()], []),
        (native.cast, [image(), half], []),
        (native.tile_blend, [image(), image(3), one, one], [0, 0]),
        (lambda out: native.crop_to_planar(pixels, 0, 0, out), [image()], []),
        (native.tile_take, [image(3), image()], [0, 0]),
        (native.tile_moments, [image(), native.Tensor((3, 2), "float64"), one, one], []),
        (native.match_planes, [image(), native.Tensor((3, 3))], []),
    ]
    for function, tensors, rest in calls:
        for place, tensor in enumerate(tensors):
            moved = native.Tensor(tensor.shape, tensor.dtype, "cuda")
            with pytest.raises(TypeError, match=r": expected a tensor of the CPU, got .* on cuda:0; .*Stream\.copy"):
                function(*tensors[:place], moved, *tensors[place + 1 :], *rest)


def makers(native: Any) -> list[Callable[[], object]]:
    return [
        lambda: native.Tensor((2, 3), device="cuda"),
        lambda: native.Tensor((2, 3), device="pinned"),
        native.cuda.Stream,
        lambda: native.cuda.memory(0),
        lambda: native.cuda.runs_on(0),
    ]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ({"driver": 0}, "no NVIDIA driver is installed here; install one, or run on the CPU"),
        ({"driver": 12040}, r"the NVIDIA driver supports CUDA 12\.4 and this build needs 13\.0; update the driver"),
        ({"devices": 0}, "the driver shows no GPU; look at nvidia-smi and at CUDA_VISIBLE_DEVICES"),
    ],
)
def test_machines_without_a_gpu(on_host: Any, machine: Machine, shown: dict[str, int], text: str) -> None:
    machine.show(**shown)
    for make in makers(on_host):
        with pytest.raises(on_host.CudaError, match=text):
            make()
    assert on_host.Tensor((2,)).device == "cpu"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (3, "start it by spawn"),
        (34, "stubs folder out of LD_LIBRARY_PATH"),
        (46, "another process holds the GPU"),
        (NO_IMAGE, "has kernels for on_host; build it again with DOSSR_CUDA_ARCHITECTURES"),
        (214, "the GPU's state in this process is lost"),
        (802, "nvidia-fabricmanager"),
        (803, "restart the machine"),
        (999, r"cudaErrorUnknown\); see the log of the driver"),
    ],
)
def test_what_cuda_says_comes_with_what_to_do(on_host: Any, machine: Machine, code: int, text: str) -> None:
    machine.fail("cudaStreamCreateWithFlags", code)
    with pytest.raises(on_host.CudaError, match=f"^making a stream: .*{text}") as error:
        on_host.cuda.Stream()
    assert isinstance(error.value, RuntimeError)
    on_host.cuda.Stream().synchronize()


def test_no_such_gpu(native: Any) -> None:
    for make in (
        lambda: native.Tensor((1,), device="cuda:77"),
        lambda: native.cuda.Stream(77),
        lambda: native.cuda.memory(77),
        lambda: native.cuda.runs_on(77),
    ):
        with pytest.raises(native.CudaError, match=r"using cuda:77: .*cudaErrorInvalidDevice.*GPUs here: [1-9]"):
            make()
    with pytest.raises(ValueError, match="device: expected 0 to"):
        native.cuda.Stream(-1)
    with pytest.raises(TypeError, match="device: expected an integer, got str"):
        native.cuda.Stream("cuda:0")


def test_no_memory(native: Any, machine: Machine) -> None:
    with pytest.raises(
        MemoryError, match=r"allocating uint8 \[\d+\] on cuda:0: no memory for 2\d+ bytes, \d+ bytes of \d+ are free"
    ):
        native.Tensor((2 * 10**12,), "uint8", "cuda")
    np.testing.assert_array_equal(down(native, native.Tensor((3,), device="cuda")), 0)
    if native.__name__ == "_native_on_host":
        machine.fail("cudaHostAlloc", 2)
        with pytest.raises(MemoryError, match=r"in pinned memory: no memory for 12 bytes; pinned memory"):
            native.Tensor((3,), device="pinned")


def test_half_made_things_leave_nothing_behind(on_host: Any, machine: Machine) -> None:
    stream = on_host.cuda.Stream()
    tensor = on_host.Tensor((3,), device="cuda")
    before = machine.alive()
    for function, make in {
        "cudaMemsetAsync": lambda: on_host.Tensor((3,), device="cuda"),
        "cudaStreamSynchronize": lambda: on_host.Tensor((3,), device="cuda"),
        "cudaEventRecordWithFlags": stream.record,
        "cudaEventCreate": stream.record,
        "cudaMemcpyAsync": lambda: tensor.__dlpack__(copy=True),
    }.items():
        machine.fail(function, INVALID_HANDLE)
        with pytest.raises(on_host.CudaError, match="cudaErrorInvalidResourceHandle"):
            make()
        assert machine.alive() == before
    for function in ("cudaGraphGetNodes", "cudaGraphNodeGetType", "cudaGraphInstantiateWithFlags"):
        stream.begin_capture()
        stream.zero(tensor)
        machine.fail(function, INVALID_HANDLE)
        with pytest.raises(on_host.CudaError, match="making a graph of a capture"):
            stream.end_capture()
        assert machine.alive() == before


def test_memory_and_kernels_of_a_gpu(native: Any, machine: Machine) -> None:
    cuda = native.cuda
    assert all(name.startswith(("sm_", "compute_", "on_host")) for name in cuda.architectures)
    assert cuda.runtime_version >= (11, 8)
    free, total = cuda.memory(0)
    assert 0 < free <= total
    tensor = native.Tensor((1 << 26,), "uint8", "cuda")
    assert cuda.memory(0)[0] <= free - tensor.nbytes // 2
    assert cuda.runs_on(0)
    if native.__name__ == "_native_on_host":
        machine.fail("cudaFuncGetAttributes", NO_IMAGE)
        assert not cuda.runs_on(0)
        machine.fail("cudaFuncGetAttributes", LOST)
        with pytest.raises(native.CudaError, match="state in this process is lost"):
            cuda.runs_on(0)


def test_the_interpreter_ends_in_peace(on_host: Any) -> None:
    """With everything still held, and a driver that is gone."""
    code = """
import sys
stream = native.cuda.Stream()
sys.kept = [stream, stream.record(), native.Tensor((3,), device="cuda"), native.Tensor((3,), device="pinned")]
stream.begin_capture()
machine.show(driver=0)
"""
    assert in_a_process(on_host, code) == ""
