"""Tensors in device and pinned memory, streams, events, graphs, DLPack: on a GPU, and on its stand-in.

What a machine lacks (GPUs, a driver, memory) and what CUDA refuses is shown by the stand-in.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.cuda_on_host.build import Machine
from tests.paths import REPOSITORY
from tests.runtime.test_native_tensor import DTYPES, Producer

NOT_READY, LOST, NO_IMAGE, INVALID_HANDLE = 600, 700, 209, 400


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


@pytest.fixture
def two_gpus(native: Any) -> Any:
    try:
        native.cuda.memory(1)
    except native.CudaError as error:
        pytest.skip(str(error))
    return native


# -- tensors ----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("device", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:10000", "cuda:1 ", "cpu:0"])
def test_devices_that_there_are_not(native: Any, device: str) -> None:
    with pytest.raises(ValueError, match=f"device: expected 'cpu', 'pinned', 'cuda' or 'cuda:N', got '{device}'"):
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
    ]
    for function, tensors, rest in calls:
        for place, tensor in enumerate(tensors):
            moved = native.Tensor(tensor.shape, tensor.dtype, "cuda")
            with pytest.raises(TypeError, match=r": expected a tensor of the CPU, got .* on cuda:0; .*Stream\.copy"):
                function(*tensors[:place], moved, *tensors[place + 1 :], *rest)


# -- what a machine lacks ---------------------------------------------------------------------------------------------


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
        "cudaEventRecord": stream.record,
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


# -- streams, events --------------------------------------------------------------------------------------------------


def test_streams_are_their_own(native: Any) -> None:
    first, second = native.cuda.Stream(), native.cuda.Stream(device=0)
    assert first.device == second.device == "cuda:0"
    assert first.ptr != second.ptr
    assert first.ptr > 2


def test_copies_that_are_refused(native: Any) -> None:
    stream, tensor = native.cuda.Stream(), native.Tensor((2, 3), device="cuda")
    with pytest.raises(TypeError, match=r"copy: target is float32 \[2, 3\] on cuda:0, source is float16 \[2, 3\]"):
        stream.copy(tensor, native.Tensor((2, 3), "float16"))
    with pytest.raises(ValueError, match=r"copy: target is float32 \[2, 3\] on cuda:0, source is float32 \[3, 2\]"):
        stream.copy(tensor, native.Tensor((3, 2)))
    with pytest.raises(TypeError, match="copy: expected target or source on cuda:0, as the stream is, got float32"):
        stream.copy(native.Tensor((2, 3)), native.Tensor((2, 3), device="pinned"))
    with pytest.raises(ValueError, match="target is written and must not share memory with source"):
        stream.copy(tensor, tensor)
    with pytest.raises(TypeError, match=r"tensor: expected a tensor on cuda:0, as the stream is, got .* on cpu"):
        stream.zero(native.Tensor((2, 3)))


def test_events(native: Any) -> None:
    stream, other = native.cuda.Stream(), native.cuda.Stream()
    tensor, pinned = up(native, values(64, 64)), native.Tensor((64, 64), device="pinned")
    before = stream.record()
    stream.copy(pinned, tensor)
    after = stream.record()
    other.wait(after)
    other.copy(tensor, native.Tensor((64, 64)))
    other.synchronize()
    after.synchronize()
    assert before.done
    assert after.done
    assert 0 <= after.seconds_since(before) < 10
    np.testing.assert_array_equal(np.asarray(pinned), values(64, 64))


def test_an_event_that_is_not_done(on_host: Any, machine: Machine) -> None:
    event = on_host.cuda.Stream().record()
    machine.fail("cudaEventQuery", NOT_READY)
    assert not event.done
    assert event.done
    machine.fail("cudaEventQuery", LOST)
    with pytest.raises(on_host.CudaError, match=r"asking an event: .*start the process again"):
        _ = event.done


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("cudaStreamSynchronize", lambda stream, tensor: stream.synchronize()),
        ("cudaStreamWaitEvent", lambda stream, tensor: stream.wait(stream.record())),
        ("cudaEventSynchronize", lambda stream, tensor: stream.record().synchronize()),
        ("cudaEventElapsedTime", lambda stream, tensor: stream.record().seconds_since(stream.record())),
        ("cudaStreamBeginCapture", lambda stream, tensor: stream.begin_capture()),
        ("cudaStreamEndCapture", lambda stream, tensor: stream.end_capture()),
        ("cudaMemcpyAsync", lambda stream, tensor: stream.copy(tensor, tensor.__class__((3,)))),
        ("cudaMemsetAsync", lambda stream, tensor: stream.zero(tensor)),
        ("cudaDeviceSynchronize", lambda stream, tensor: tensor.__dlpack__()),
        ("cudaGetDevice", lambda stream, tensor: stream.zero(tensor)),
    ],
)
def test_lost_gpus_are_told_by_every_call(on_host: Any, machine: Machine, function: str, call: Any) -> None:
    stream, tensor = on_host.cuda.Stream(), on_host.Tensor((3,), device="cuda")
    machine.fail(function, LOST)
    with pytest.raises(on_host.CudaError, match=r"cudaErrorIllegalAddress\); the GPU's state in this process is lost"):
        call(stream, tensor)
    machine.fail("", 0, 0)
    stream.synchronize()


def test_what_destructors_cannot_free_is_nobodys_error(on_host: Any, machine: Machine) -> None:
    for function in ("cudaStreamIsCapturing", "cudaStreamDestroy", "cudaEventDestroy", "cudaFree", "cudaFreeHost"):
        stream = on_host.cuda.Stream()
        things = [stream, stream.record(), *(on_host.Tensor((3,), device=device) for device in ("cuda", "pinned"))]
        machine.fail(function, 4)
        del stream, things
        gc.collect()
        on_host.cuda.Stream().synchronize()


def test_other_threads_run_while_one_waits(native: Any) -> None:
    """Every stream is one thread's; GPU, allocations and errors are everyone's."""
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for _ in range(20):
                array = np.full((257,), seed, np.float32)
                np.testing.assert_array_equal(down(native, up(native, array)), array)
        except BaseException as error:  # told by the main thread
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


# -- graphs -----------------------------------------------------------------------------------------------------------


def test_capture_and_replay(native: Any) -> None:
    stream = native.cuda.Stream()
    source, target = native.Tensor((2, 3), device="pinned"), native.Tensor((2, 3), device="pinned")
    tensor, half = native.Tensor((2, 3), device="cuda"), native.Tensor((2, 3), "float16", "cuda")
    stream.begin_capture()
    stream.copy(tensor, source)
    native.cuda.cast(stream, tensor, half)
    native.cuda.cast(stream, half, tensor)
    stream.copy(target, tensor)
    graph = stream.end_capture()
    assert graph.kernels == 2
    assert not np.asarray(target).any()
    for number in (1.0, 2.5):
        source.fill(number)
        graph.launch(stream)
        stream.synchronize()
        assert (np.asarray(target) == number).all()
    graph.launch(native.cuda.Stream())


def test_streams_that_wait_join_a_capture(native: Any) -> None:
    first, second = native.cuda.Stream(), native.cuda.Stream()
    a, b = (native.Tensor((3,), device="cuda") for _ in range(2))
    c = native.tensor_from(values(3))
    first.begin_capture()
    first.zero(a)
    second.wait(first.record())
    second.zero(b)
    first.wait(second.record())
    graph = first.end_capture()
    second.copy(b, c)
    second.synchronize()
    np.testing.assert_array_equal(down(native, b), values(3))
    graph.launch(second)
    second.synchronize()
    assert not down(native, b).any()


def test_captures_that_break(native: Any) -> None:
    stream, other = native.cuda.Stream(), native.cuda.Stream()
    tensor = native.Tensor((3,), device="cuda")
    outside = stream.record()

    def join() -> None:
        other.wait(stream.record())
        other.zero(tensor)

    for call, error, text in (
        (stream.synchronize, native.CudaError, "before begin_capture or after end_capture"),
        (lambda: native.Tensor((3,), device="cuda"), native.CudaError, "before begin_capture or after end_capture"),
        (lambda: stream.wait(outside), native.CudaError, "only for events of its own capture"),
        (lambda: stream.record().synchronize(), native.CudaError, r"for wait\(\) in it alone"),
        (stream.begin_capture, native.CudaError, "beginning a capture"),
        (join, None, ""),
    ):
        stream.begin_capture()
        stream.zero(tensor)
        if error:
            with pytest.raises(error, match=text):
                call()
        else:
            call()
        try:
            stream.end_capture()
        except native.CudaError as broken:
            assert "capture again" in str(broken) or "must be waited for" in str(broken)  # noqa: PT017
        stream.synchronize()
        other.synchronize()
    with pytest.raises(native.CudaError, match="ending a capture"):
        stream.end_capture()


def test_a_capture_ends_in_its_thread(native: Any) -> None:
    stream, told = native.cuda.Stream(), []

    def end() -> None:
        try:
            stream.end_capture()
        except native.CudaError as error:
            told.append(str(error))

    stream.begin_capture()
    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert "end a capture in the thread that began it" in told[0]
    stream.end_capture()


def test_a_stream_may_go_within_its_capture(native: Any) -> None:
    stream, tensor = native.cuda.Stream(), native.Tensor((3,), device="cuda")
    stream.begin_capture()
    stream.zero(tensor)
    del stream
    gc.collect()
    native.cuda.Stream().synchronize()


# -- two GPUs ---------------------------------------------------------------------------------------------------------


def test_copies_between_gpus(two_gpus: Any) -> None:
    native = two_gpus
    array = values(3, 5)
    first, second = up(native, array), native.Tensor((3, 5), device="cuda:1")
    for stream in (native.cuda.Stream(0), native.cuda.Stream(1)):
        stream.zero(second if stream.device == "cuda:1" else native.Tensor((1,), device="cuda"))
        stream.copy(second, first)
        stream.synchronize()
        np.testing.assert_array_equal(down(native, second), array)
    assert second.__dlpack_device__() == (2, 1)


def test_things_of_another_gpu(two_gpus: Any) -> None:
    native = two_gpus
    zeroth, first = native.cuda.Stream(0), native.cuda.Stream(1)
    there = native.Tensor((3,), device="cuda:1")
    with pytest.raises(TypeError, match=r"expected target or source on cuda:0, .* on cuda:1 and float32 \[3\]"):
        zeroth.copy(there, native.Tensor((3,)))
    with pytest.raises(TypeError, match=r"tensor: expected a tensor on cuda:0, as the stream is, got .* on cuda:1"):
        zeroth.zero(there)
    with pytest.raises(TypeError, match=r"src: expected a tensor on cuda:0, as the stream is, got .* on cuda:1"):
        native.cuda.cast(zeroth, there, native.Tensor((3,), "float16", "cuda"))
    first.begin_capture()
    first.zero(there)
    graph = first.end_capture()
    with pytest.raises(ValueError, match="stream: expected one of cuda:1, where the graph was captured, got one of"):
        graph.launch(zeroth)
    with pytest.raises(ValueError, match="earlier: expected an event of cuda:0, got one of cuda:1"):
        zeroth.record().seconds_since(first.record())
    zeroth.wait(first.record())


def test_kernels_run_where_their_stream_is(two_gpus: Any) -> None:
    native = two_gpus
    for device in (1, 0, 1):
        stream = native.cuda.Stream(device)
        source, half = up(native, values(9), f"cuda:{device}"), native.Tensor((9,), "float16", f"cuda:{device}")
        native.cuda.cast(stream, source, half)
        stream.synchronize()
        np.testing.assert_array_equal(down(native, half), values(9).astype(np.float16))


def in_a_process(native: Any, code: str) -> str:
    """What that code prints, whose `native` is the module."""
    head = f"from pathlib import Path; from tests.cuda_on_host.build import Machine, load; path = {native.__file__!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", head + "native, machine = load(Path(path)), Machine(Path(path))\n" + code],
        capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_only_the_gpu_that_is_used_gets_a_context(on_host: Any) -> None:
    """In a process of its own, as contexts stay."""
    code = """
stream, tensor = native.cuda.Stream(1), native.Tensor((3,), device="cuda:1")
native.Tensor((3,), device="pinned")
stream.zero(tensor)
print(machine.has_context(0), machine.has_context(1))
"""
    assert in_a_process(on_host, code) == "False True\n"


# -- DLPack -----------------------------------------------------------------------------------------------------------


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
