"""Streams, events, captured graphs and a second GPU, on GPUs and on their stand-in."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

from tests.cuda_on_host.build import Machine
from tests.runtime.cuda.transfers import LOST, NOT_READY, down, in_a_process, up, values


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
    other = native.cuda.Stream()
    graph.launch(other)
    other.synchronize()


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


@pytest.fixture
def two_gpus(native: Any) -> Any:
    try:
        native.cuda.memory(1)
    except native.CudaError as error:
        pytest.skip(str(error))
    return native


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


def test_only_the_gpu_that_is_used_gets_a_context(on_host: Any) -> None:
    """In a process of its own, as contexts stay."""
    code = """
stream, tensor = native.cuda.Stream(1), native.Tensor((3,), device="cuda:1")
native.Tensor((3,), device="pinned")
stream.zero(tensor)
print(machine.has_context(0), machine.has_context(1))
"""
    assert in_a_process(on_host, code) == "False True\n"


def test_pinned_memory_is_made_in_the_context_of_the_gpu_that_is_named(on_host: Any) -> None:
    """In a thread that has used none yet, too."""
    code = """
import threading
maker = threading.Thread(target=lambda: native.Tensor((3,), device="pinned:1"))
maker.start()
maker.join()
print(machine.has_context(0), machine.has_context(1))
"""
    assert in_a_process(on_host, code) == "False True\n"


def test_times_of_what_is_done_wait_for_nothing(on_host: Any, machine: Machine) -> None:
    stream = on_host.cuda.Stream()
    before, after = stream.record(), stream.record()
    after.synchronize()
    waits = machine.calls("cudaEventSynchronize")
    assert after.seconds_since(before) >= 0
    assert machine.calls("cudaEventSynchronize") == waits


def test_a_graph_is_on_the_gpu_before_its_first_launch(on_host: Any, machine: Machine) -> None:
    stream, tensor = on_host.cuda.Stream(1), on_host.Tensor((3,), device="cuda:1")
    alive, uploads = machine.alive(), machine.calls("cudaGraphUpload")
    stream.begin_capture()
    stream.zero(tensor)
    graph = stream.end_capture()
    assert machine.calls("cudaGraphUpload") == uploads + 1
    del graph
    stream.begin_capture()
    stream.zero(tensor)
    machine.fail("cudaGraphUpload", LOST)
    with pytest.raises(on_host.CudaError, match="putting a graph on the GPU"):
        stream.end_capture()
    assert machine.alive() == alive
