"""Run by test_pictures.py with the plugin tests.cuda_on_host.plugin: pictures by the GPU's way and by the host's."""

import contextlib
import gc
import logging
import threading

import numpy as np
import pytest

import runtime
from engines.errors import EngineError, MemoryBudgetError
from runtime import color_fix
from runtime.cuda import Cuda
from runtime.cuda_kernels import COLOR_FIXES
from runtime.trace import Trace
from tests.cuda_on_host.build import Machine
from tests.cuda_on_host.plugin import native
from tests.tiny import write_tiny_bundle

LOST, OUT_OF_MEMORY, LAUNCH_FAILURE = 700, 2, 719


def photo(width=40, height=24, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype)


def pixels(result):
    return bytes(memoryview(result.pixels))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def gpu(bundle):
    with runtime.Upscaler(bundle) as upscaler:
        assert isinstance(upscaler._ways.asked.device, Cuda)
        yield upscaler


@pytest.fixture(scope="module")
def cpu(bundle):
    with runtime.Upscaler(bundle, device="cpu") as upscaler:
        yield upscaler


@pytest.fixture
def machine():
    machine = Machine(native.__file__)
    yield machine
    machine.show()
    machine.fail("", 0, 0)


def test_every_color_fix_has_its_cuda_form():
    assert {*COLOR_FIXES, "none"} == set(color_fix.COLOR_FIXES)


@pytest.mark.parametrize("fix", ["wavelet", "adain", "none"])
@pytest.mark.parametrize("noise", ["philox", "torch-cpu", "given"])
def test_the_picture_is_the_hosts(gpu, cpu, fix, noise):
    """Engines are the same here, and our kernels bit-equal."""
    if noise == "given":
        noise = [np.random.default_rng(i).standard_normal((1, 4, 16, 24), np.float32) for i in range(5)]
    for order in (1, 2, 3):
        settings = {"steps": 3, "order": order, "seed": 2**64 - 1, "noise": noise, "color_fix": fix}
        assert pixels(gpu(photo(), **settings)) == pixels(cpu(photo(), **settings))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bit_depth", [8, 16])
def test_depths(gpu, cpu, dtype, bit_depth):
    given = photo(dtype=dtype)
    assert pixels(gpu(given, bit_depth=bit_depth)) == pixels(cpu(given, bit_depth=bit_depth))


def test_the_trace_is_the_hosts(gpu, cpu, tmp_path):
    for upscaler, name in ((gpu, "gpu"), (cpu, "cpu")):
        trace = Trace()
        upscaler(photo(), steps=3, trace=trace)
        trace.write(tmp_path / name)
    assert (tmp_path / "gpu").read_bytes() == (tmp_path / "cpu").read_bytes()


def test_a_picture_in_a_gpus_memory(gpu, cpu):
    there = native.Tensor((24, 40, 3), "uint8", "cuda:1")
    native.cuda.Stream(1).copy(there, native.tensor_from(photo()))
    assert pixels(gpu(there)) == pixels(cpu(photo()))


def test_a_strided_picture_in_a_gpus_memory_is_refused(gpu):
    class Strided:
        def __dlpack_device__(self):
            return 2, 0

        def __dlpack__(self, **_):
            raise BufferError("no")

    with pytest.raises(runtime.ImageError, match="cannot read a Strided as an image"):
        gpu(Strided())


def test_the_other_gpu(bundle, cpu):
    with runtime.Upscaler(bundle, device="cuda:1") as upscaler:
        assert upscaler._ways.asked.device.work.device == "cuda:1"
        assert pixels(upscaler(photo())) == pixels(cpu(photo()))


def test_a_gpu_that_is_not_there(bundle):
    with pytest.raises(EngineError, match=r"GPU|device"):
        runtime.Upscaler(bundle, device="cuda:2")


def test_several_upscalers_in_several_threads(bundle, cpu):
    expected = {seed: pixels(cpu(photo(), seed=seed)) for seed in range(4)}
    found = {}

    def restore(seed):
        with runtime.Upscaler(bundle, device=f"cuda:{seed % 2}") as upscaler:
            for _ in range(3):
                found[seed] = pixels(upscaler(photo(), seed=seed))

    threads = [threading.Thread(target=restore, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_many_pictures_leave_nothing_on_the_gpu(bundle, machine):
    before = machine.alive()
    with runtime.Upscaler(bundle) as upscaler:
        sizes = [(16, 16), (20, 16), (16, 33), (33, 16), (48, 16), (16, 50)]
        for upto in (15, 60):
            for i in range(upto):
                upscaler(photo(*sizes[i % len(sizes)]), steps=1, color_fix="none")
            if upto == 15:
                kept = machine.alive()
        assert machine.alive() <= kept
    del upscaler
    assert machine.alive() <= before + 3, "the device's streams go with the last reference"


@pytest.mark.parametrize(("fix", "noise"), [("wavelet", "philox"), ("adain", "torch-cpu"), ("none", "philox")])
def test_a_picture_in_tiles_is_the_hosts(gpu, cpu, fix, noise):
    settings = {"steps": 3, "tile": 32, "color_fix": fix, "noise": noise}
    given = photo(150, 70)
    expected = pixels(cpu(given, **settings))
    for batch in (None, 3):
        assert pixels(gpu(given, tile_batch=batch, **settings)) == expected
    assert gpu.plan(given, tile=32).tile_batch == 4


@pytest.mark.parametrize("at", [0, 5, 30])
def test_a_picture_in_tiles_is_stopped_on_its_way(gpu, cpu, at):
    control = runtime.Control(on_progress=lambda progress: progress.tile < at or control.cancel())
    with pytest.raises(runtime.CancelledError):
        gpu(photo(300, 150), tile=32, steps=1, control=control)
    assert pixels(gpu(photo(150, 70), tile=32, steps=1)) == pixels(cpu(photo(150, 70), tile=32, steps=1))


def test_a_trace_in_tiles_is_the_hosts(gpu, cpu, tmp_path):
    for upscaler, name in ((gpu, "gpu"), (cpu, "cpu")):
        trace = Trace()
        upscaler(photo(150, 70), steps=2, tile=32, trace=trace)
        trace.write(tmp_path / name)
    assert (tmp_path / "gpu").read_bytes() == (tmp_path / "cpu").read_bytes()


def test_pictures_in_tiles_leave_nothing(bundle, cpu, machine):
    with runtime.Upscaler(bundle) as upscaler:
        settings = {"steps": 2, "tile": 32}
        expected = pixels(cpu(photo(150, 70), **settings))
        for _ in range(2):
            assert pixels(upscaler(photo(150, 70), **settings)) == expected
        gc.collect()
        before = machine.alive()
        for _ in range(3):
            assert pixels(upscaler(photo(150, 70), **settings)) == expected
        gc.collect()
        assert machine.alive() <= before
        machine.fail("cudaLaunchKernel", LAUNCH_FAILURE, 9)
        with pytest.raises(EngineError):
            upscaler(photo(150, 70), **settings)
        machine.fail("", 0, 0)
        assert pixels(upscaler(photo(150, 70), **settings)) == expected


def test_a_stream_of_batches_is_put_ahead(bundle, cpu):
    given = [photo(seed=seed) for seed in range(7)]
    with runtime.Upscaler(bundle, cuda_graphs=False) as upscaler:
        device, put, running = upscaler._ways.asked.device, [], []
        kernels = device.kernels

        def counted(plan, noise):
            put.append(kernels(plan, noise))
            running.append(1 + sum(batch._done is not None for batch in put))
            return put[-1]

        device.kernels = counted
        found = [pixels(result) for result in upscaler.stream(given, batch=2, steps=2)]
    assert found == [pixels(cpu(picture, steps=2)) for picture in given]
    assert max(running) == 2
    assert device.last.done


def test_a_stream_that_is_dropped_leaves_nothing(bundle, cpu, machine):
    given = [photo(seed=seed) for seed in range(6)]
    with runtime.Upscaler(bundle) as upscaler:
        list(upscaler.stream(given, steps=1))
        gc.collect()
        before = machine.alive()
        for _ in range(4):
            stream = upscaler.stream(given, steps=1)
            next(stream)
            del stream
            gc.collect()
        assert machine.alive() <= before
        assert pixels(upscaler(given[3], steps=1)) == pixels(cpu(given[3], steps=1))


@pytest.mark.parametrize(
    ("function", "code", "kind"),
    [
        ("cudaMalloc", OUT_OF_MEMORY, MemoryBudgetError),
        ("cudaHostAlloc", OUT_OF_MEMORY, MemoryBudgetError),
        ("cudaMemcpyAsync", LOST, EngineError),
        ("cudaLaunchKernel", LAUNCH_FAILURE, EngineError),
        ("cudaEventRecordWithFlags", LOST, EngineError),
        ("cudaEventSynchronize", LOST, EngineError),
        ("cudaStreamWaitEvent", LOST, EngineError),
        ("cudaMemsetAsync", LOST, EngineError),
    ],
)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_what_cuda_refuses_is_named_and_the_next_picture_is_right(bundle, cpu, machine, function, code, kind, n):
    with runtime.Upscaler(bundle) as upscaler:
        expected = pixels(upscaler(photo(16, 16), seed=1))
        machine.fail(function, code, n)
        with contextlib.suppress(kind):  # where there are n such calls at all
            upscaler(photo(20, 30), steps=5, order=3)
        machine.fail("", 0, 0)
        assert pixels(upscaler(photo(20, 30))) == pixels(cpu(photo(20, 30)))
        assert pixels(upscaler(photo(16, 16), seed=1)) == expected


def test_a_build_without_code_for_the_gpu_copies_and_says_so(bundle, cpu, machine, caplog):
    machine.fail("cudaFuncGetAttributes", 209)
    with caplog.at_level(logging.WARNING, "dossr"), runtime.Upscaler(bundle) as upscaler:
        assert upscaler._ways.asked.device.name == "cpu"
        assert pixels(upscaler(photo())) == pixels(cpu(photo()))
    assert "pictures are copied between host and cuda:0 at every engine call, which is slow" in caplog.text


def test_a_build_without_cuda_copies_and_says_so(bundle, cpu, monkeypatch, caplog):
    monkeypatch.setattr("runtime.kernels.cuda", None)
    with caplog.at_level(logging.WARNING, "dossr"), runtime.Upscaler(bundle) as upscaler:
        assert pixels(upscaler(photo())) == pixels(cpu(photo()))
    assert "runtime._native was built without CUDA; install nvcc" in caplog.text
    with pytest.raises(EngineError, match="built without CUDA"):
        Cuda("cuda:0")


def cancelled_at(report):
    """A control that is cancelled at its report of that number."""
    told = []

    def look(progress):
        told.append(progress.stage)
        if len(told) == report + 1:
            control.cancel()

    control = runtime.Control(on_progress=look)
    return control


def test_cancelled_pictures_leave_nothing(bundle, cpu, machine):
    """The call ends at once, what was put there runs on, and its buffers serve again when it is done."""
    expected = pixels(cpu(photo(), steps=1))
    alive = []
    with runtime.Upscaler(bundle) as upscaler:
        for at in (*range(8), *range(8), *range(8)):
            control = cancelled_at(at)
            with contextlib.suppress(runtime.CancelledError):
                upscaler(photo(), steps=1, control=control, noise="torch-cpu" if at % 2 else "philox")
            assert control.cancelled == (at < 7)
            assert pixels(upscaler(photo(), steps=1)) == expected
            alive += [machine.alive()] if at == 7 else []
    assert alive[2] <= alive[1]


@pytest.mark.parametrize("recorded", [False, True])
def test_ctrl_c_while_the_gpu_is_waited_for(bundle, cpu, monkeypatch, recorded):
    with runtime.Upscaler(bundle, cuda_graphs=recorded) as upscaler:
        expected = [pixels(upscaler(photo(), steps=1)) for _ in range(3)][-1]
        assert expected == pixels(cpu(photo(), steps=1))
        device = upscaler._ways.asked.device
        with monkeypatch.context() as patch:

            def interrupted(_event, _check):
                raise KeyboardInterrupt

            patch.setattr(device, "wait_for", interrupted)
            for _ in range(3):
                with pytest.raises(KeyboardInterrupt):
                    upscaler(photo(), steps=1)
        assert pixels(upscaler(photo(), steps=1)) == expected
        assert not device._left
