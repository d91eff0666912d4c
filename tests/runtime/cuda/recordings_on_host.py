"""Run by test_pictures.py with the plugin tests.cuda_on_host.plugin: whole pictures as CUDA graphs, on engines that can
be recorded.
"""

import gc
import logging

import numpy as np
import pytest

import runtime
import solvers
from runtime import recording
from runtime.cuda_kernels import CudaKernels
from tests.cuda_on_host.build import Machine
from tests.cuda_on_host.plugin import native
from tests.runtime.cuda.pictures_on_host import bundle, cpu, photo, pixels  # noqa: F401  # fixtures

INVALIDATED = 901


@pytest.fixture
def gpu(bundle):  # noqa: F811
    with runtime.Upscaler(bundle, fallback="none") as upscaler:
        yield upscaler


@pytest.fixture
def machine():
    machine = Machine(native.__file__)
    yield machine
    machine.fail("", 0, 0)


def recordings(upscaler):
    """Of every size, as lists by kind."""
    return [kept for ws in upscaler._ways.asked._workspaces.values() for kept in ws.recordings._kept.values() if kept]


def test_the_first_runs_plainly_and_the_next_are_launched(gpu, cpu):  # noqa: F811
    results = [gpu(photo(seed=i), seed=i) for i in range(4)]
    assert [result.replayed for result in results] == [False, True, True, True]
    assert [pixels(result) for result in results] == [pixels(cpu(photo(seed=i), seed=i)) for i in range(4)]
    ((only,),) = recordings(gpu)
    assert only.nbytes > photo().nbytes * 17


def test_a_launch_gives_the_plain_pictures_bits(gpu, bundle):  # noqa: F811
    with runtime.Upscaler(bundle, cuda_graphs=False) as plain:
        for settings in ({"steps": 3, "order": 2}, {"color_fix": "adain"}, {"bit_depth": 16}, {"color_fix": "none"}):
            for seed in (0, 2**64 - 1, 7):
                replayed, launched = gpu(photo(), seed=seed, **settings), plain(photo(), seed=seed, **settings)
                assert pixels(replayed) == pixels(launched)
                assert not launched.replayed
            assert replayed.replayed


def test_other_coefficients_need_no_other_recording(gpu, cpu):  # noqa: F811
    plans = [solvers.plan(steps=3, order=2), solvers.plan(steps=3, order=2, t1=600)]
    for plan in (*plans, *plans):
        expected = cpu(photo(), plan=plan, force_plan=True)
        assert pixels(gpu(photo(), plan=plan, force_plan=True)) == pixels(expected)
    assert [len(kept) for kept in recordings(gpu)] == [1]


def test_kinds_that_were_used_longest_ago_go(gpu, machine):
    steps = list(range(1, recording.KINDS + 3))
    for count in steps:
        for _ in range(2):
            gpu(photo(), steps=count)
    assert len(recordings(gpu)) == recording.KINDS
    before = machine.alive()
    for count in steps:
        assert gpu(photo(), steps=count).replayed
    assert len(recordings(gpu)) == recording.KINDS
    gc.collect()
    assert machine.alive() <= before + 2 * len(steps)


def test_batches_in_flight_have_a_recording_each(gpu, cpu):  # noqa: F811
    given = [photo(seed=seed) for seed in range(9)]
    found = list(gpu.stream(given, batch=2, steps=2))
    assert [pixels(result) for result in found] == [pixels(cpu(picture, steps=2)) for picture in given]
    assert [result.replayed for result in found] == [False] * 2 + [True] * 6 + [False], "the last batch has one picture"
    assert [len(kept) for kept in recordings(gpu)] == [recording.IN_FLIGHT]


def test_what_is_recorded_is_timed_and_told(gpu):
    told = []
    for _ in range(2):
        told.clear()
        result = gpu(photo(), steps=2, on_progress=told.append)
    assert result.replayed
    assert ("denoise", 1, 2) in [(progress.stage, progress.step, progress.steps) for progress in told]
    assert [span.name for span in result.spans].count("denoise") == 2
    assert {"preprocess", "encode", "denoise", "decode", "color_fix"} <= result.timings.keys()
    assert all(0 <= span.start <= span.end for span in result.spans)
    first = result.spans
    assert gpu(photo(), steps=2).spans[-1].start != first[-1].start, "times are the last launch's"


def test_noise_of_the_host_and_traces_go_plainly(gpu, cpu):  # noqa: F811
    for _ in range(3):
        result = gpu(photo(), noise="torch-cpu")
        assert not result.replayed
        assert pixels(result) == pixels(cpu(photo(), noise="torch-cpu"))
    trace = runtime.trace.Trace()
    assert not gpu(photo(), trace=trace).replayed


def test_a_failed_capture_is_told_once_and_goes_plainly(gpu, cpu, machine, caplog):  # noqa: F811
    expected = pixels(cpu(photo()))
    assert pixels(gpu(photo())) == expected
    machine.fail("cudaStreamEndCapture", INVALIDATED, 1)
    with caplog.at_level(logging.WARNING, "dossr"):
        for _ in range(3):
            result = gpu(photo())
            assert not result.replayed
            assert pixels(result) == expected
    assert caplog.text.count("pictures of this kind are not replayed as one CUDA graph") == 1


def test_a_failed_launch_is_an_error_and_the_next_picture_is_right(gpu, cpu, machine):  # noqa: F811
    for _ in range(2):
        gpu(photo())
    machine.fail("cudaGraphLaunch", 700, 1)
    with pytest.raises(runtime.EngineError):
        gpu(photo())
    machine.fail("", 0, 0)
    result = gpu(photo())
    assert result.replayed
    assert pixels(result) == pixels(cpu(photo()))


def test_a_dropped_stream_leaves_its_recordings_usable(gpu, cpu):  # noqa: F811
    for _ in range(3):
        stream = gpu.stream([photo(seed=seed) for seed in range(6)])
        next(stream)
        next(stream)
        del stream
        gc.collect()
    result = gpu(photo())
    assert result.replayed
    assert pixels(result) == pixels(cpu(photo()))


def test_an_abandoned_launch_is_done_before_its_buffers_serve_again(gpu):
    for seed in range(2):
        gpu(photo(), seed=seed)
    stream = gpu.stream([photo()] * 3)
    next(stream)
    (launched,) = (kept for of_kind in recordings(gpu) for kept in of_kind if kept.busy)
    del stream
    gc.collect()
    assert not launched.busy
    launched.free()
    assert launched._done.done


def test_no_garbage_is_collected_within_a_capture(gpu, machine, monkeypatch):
    """An engine that nobody closed would be freed there, which CUDA does not allow."""
    seen = []

    def step(kernels, *arguments):
        seen.append(gc.isenabled())
        return real(kernels, *arguments)

    real = CudaKernels.step
    monkeypatch.setattr(CudaKernels, "step", step)
    for failing in (True, False):
        gpu(photo(), steps=1, order=1, color_fix="adain" if failing else "none")
        del seen[:]
        machine.fail("cudaStreamEndCapture", INVALIDATED, int(failing))
        gpu(photo(), steps=1, order=1, color_fix="adain" if failing else "none")
        assert seen == ([False, True] if failing else [False])
        assert gc.isenabled()


def test_a_closed_upscaler_leaves_nothing(bundle, machine):  # noqa: F811
    gc.collect()
    before = machine.alive()
    with runtime.Upscaler(bundle, fallback="none") as upscaler:
        for size in ((16, 16), (20, 30), (16, 16)):
            for _ in range(3):
                upscaler(photo(*size))
        assert machine.alive() > before
    del upscaler
    gc.collect()
    assert machine.alive() <= before


def test_values_that_went_wrong_are_seen_in_a_launch(bundle, monkeypatch):  # noqa: F811
    with runtime.Upscaler(bundle, fallback="none") as upscaler:
        for _ in range(2):
            upscaler(photo())
        monkeypatch.setattr("runtime.guard.PICTURE_LIMIT", 0.0, raising=True)
        with pytest.raises(runtime.GuardError):
            upscaler(photo())


def test_a_budget_records_nothing(bundle, cpu):  # noqa: F811
    with runtime.Upscaler(bundle, max_memory="3GiB") as upscaler:
        for _ in range(3):
            result = upscaler(photo())
            assert not result.replayed
    assert np.array_equal(memoryview(result.pixels), memoryview(cpu(photo()).pixels))
