"""Pictures made on an NVIDIA GPU by ONNX Runtime's CUDA provider and our kernels, against the CPU's."""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import runtime
from engines.bundle import open_bundle
from engines.memory import resident_memory
from engines.ort_cuda import REGULAR_RUNS
from export.lowering import onnxruntime_cpu
from runtime import kernels
from runtime.bench.photo import picture_file
from runtime.default_bundle import DEMO_BUNDLE
from runtime.trace import Trace
from runtime.workspace import latent_size_needed
from tests.broken import overflowing, with_forms
from tests.gpu import gpu_missing
from tests.parity.exporting import DEMO, exported_bundle

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(gpu_missing()), reason=gpu_missing())]

PSNR = {"fp16": 45.0, "fp32": 60.0}
"""dB to the CPU's picture of the same bundle, which it computes in float32."""
SAME = 55.0
"""dB between two runs of one picture; two seeds of the demo are 26 dB apart."""
CAPTURED = REGULAR_RUNS + 2
"""Pictures of one size after which every call was recorded and replayed."""
PLAIN = {"enable_cuda_graph": "0"}
GROWTH = 16 << 20
"""Bytes that a process or the GPU may hold more after 140 pictures: less than one picture's buffers each time."""


@pytest.fixture(scope="module", params=["lowered", "canonical"])
def form(request):
    return request.param


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """By precision and form, the demo model."""
    found = {}
    for precision in PSNR:
        lowered = exported_bundle(DEMO, "--precision", precision)
        canonical = shutil.copytree(lowered, tmp_path_factory.mktemp(precision) / "canonical")
        found[precision, "lowered"] = lowered
        found[precision, "canonical"] = with_forms(canonical, onnxruntime_cpu.BACKEND)
    return found


@pytest.fixture(scope="module")
def fp16(bundles):
    return bundles["fp16", "lowered"]


@pytest.fixture(scope="module")
def fp32(bundles):
    return bundles["fp32", "lowered"]


@pytest.fixture(scope="module")
def photo():
    return picture_file(72, 56)


def restored(bundle, image, *, device="cuda", provider_options=(), **settings):
    with runtime.Upscaler(bundle, device=device, provider_options=provider_options, fallback="none") as upscaler:
        return upscaler(image, **settings)


def data(result):
    return bytes(memoryview(result.pixels))


def psnr(a, b):
    a, b = (np.asarray(memoryview(result.pixels)) for result in (a, b))
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    error = np.mean((a.astype(float) - b) ** 2)
    return 10 * np.log10(np.iinfo(a.dtype).max ** 2 / max(error, 1e-12))


def same(a, b):
    """Whether it is one picture: ONNX Runtime's GroupNorm adds up in no fixed order, so that last bits move."""
    return psnr(a, b) >= SAME


@pytest.mark.parametrize("precision", PSNR)
@pytest.mark.parametrize("noise", ["philox", "torch-cpu"])
@pytest.mark.parametrize("color_fix", ["wavelet", "adain", "none"])
def test_the_cpus_picture(bundles, precision, form, noise, color_fix, photo):
    settings = {"seed": 3, "noise": noise, "color_fix": color_fix}
    bundle = bundles[precision, form]
    result = restored(bundle, photo, **settings)
    assert "CUDAExecutionProvider" in result.engine
    found = psnr(result, restored(bundle, photo, device="cpu", **settings))
    print(f"{precision}, {form}, {noise}, {color_fix}: {found:.1f} dB")
    assert found >= PSNR[precision]


@pytest.mark.parametrize("precision", PSNR)
@pytest.mark.parametrize("color_fix", ["wavelet", "adain"])
def test_a_picture_in_tiles_is_the_cpus(bundles, precision, color_fix):
    image, settings = picture_file(200, 120), {"tile": 64, "steps": 2, "color_fix": color_fix}
    bundle = bundles[precision, "lowered"]
    found = psnr(restored(bundle, image, **settings), restored(bundle, image, device="cpu", **settings))
    print(f"in tiles, {precision}, {color_fix}: {found:.1f} dB")
    assert found >= PSNR[precision]


@pytest.mark.parametrize("kind", ["grey", "alpha", "16 bits", "1x1"])
def test_kinds_of_pictures(fp16, kind):
    pixels = np.random.default_rng(5).integers(0, 255, (33, 21, 4), np.uint8)
    image = {
        "grey": Image.fromarray(pixels[:, :, 0]),
        "alpha": Image.fromarray(pixels, "RGBA"),
        "16 bits": pixels[:, :, :3].astype(np.uint16) * 257,
        "1x1": np.ascontiguousarray(pixels[:1, :1, :3]),
    }[kind]
    assert psnr(restored(fp16, image), restored(fp16, image, device="cpu")) >= PSNR["fp16"]


@pytest.mark.parametrize("precision", PSNR)
def test_replayed_graphs_give_what_plain_launches_give(bundles, precision, form, photo):
    """Bit for bit where plain launches give the same bits twice."""
    bundle = bundles[precision, form]
    plain, again = (restored(bundle, photo, seed=5, provider_options=PLAIN) for _ in range(2))
    with runtime.Upscaler(bundle, device="cuda", fallback="none") as upscaler:
        pictures = [upscaler(photo, seed=5) for _ in range(CAPTURED)]
    exact = data(plain) == data(again)
    print(f"{precision}, {form}: {'exact' if exact else 'plain launches differ among themselves'}")
    assert all(data(picture) == data(plain) if exact else same(picture, plain) for picture in pictures)


def test_two_seeds_through_recorded_graphs(fp16, photo):
    with runtime.Upscaler(fp16, device="cuda", fallback="none") as upscaler:
        for _ in range(CAPTURED):
            upscaler(photo, seed=1)
        one, two, one_again = (upscaler(photo, seed=seed) for seed in (1, 2, 1))
        fewer = upscaler(photo, seed=1, steps=3)
        one_after = upscaler(photo, seed=1)
    assert same(one, one_again)
    assert same(one, one_after)
    assert not same(one, two)
    assert not same(one, fewer)
    for seed, steps, expected in ((1, 5, one), (2, 5, two), (1, 3, fewer)):
        assert same(restored(fp16, photo, seed=seed, steps=steps, provider_options=PLAIN), expected)


@pytest.mark.parametrize("precision", PSNR)
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_batches_are_the_pictures_alone(bundles, precision, batch):
    """In float32 within one level; in fp16 another batch's convolutions round otherwise."""
    pictures = [picture_file(64, 48 - 4 * (i % 3)) for i in range(8)]
    with runtime.Upscaler(bundles[precision, "lowered"], device="cuda", fallback="none") as upscaler:
        alone = [upscaler(picture, seed=9) for picture in pictures]
        for _ in range(2):
            together = list(upscaler.stream(pictures, batch=batch, seed=9))
    for a, b in zip(alone, together, strict=True):
        if precision == "fp32":
            difference = np.asarray(memoryview(a.pixels)).astype(int) - np.asarray(memoryview(b.pixels))
            assert np.abs(difference).max() <= 1
        assert psnr(a, b) >= PSNR[precision]


def test_200_pictures_of_three_sizes_hold_no_more_memory(fp16):
    pictures = [picture_file(*size) for size in ((64, 48), (96, 64), (40, 88))]
    held = []
    with runtime.Upscaler(fp16, device="cuda", fallback="none") as upscaler:
        for i in range(200):
            upscaler(pictures[i % 3], seed=i)
            if i in (59, 199):
                held.append((kernels.cuda.memory(0)[0], resident_memory()))
    (free, resident), (free_at_last, resident_at_last) = held
    print(
        f"the GPU: {(free - free_at_last) >> 10} KiB more, the process: {(resident_at_last - resident) >> 10} KiB more"
    )
    assert free - free_at_last <= GROWTH
    assert resident_at_last - resident <= GROWTH


def test_two_upscalers_in_two_threads(fp16, fp32):
    tasks = [(fp16, picture_file(64, 48)), (fp32, picture_file(48, 80))]
    expected = [restored(bundle, picture, seed=4) for bundle, picture in tasks]
    wrong, errors = [], []
    ready = threading.Barrier(len(tasks))

    def work(number):
        bundle, picture = tasks[number]
        try:
            ready.wait()
            with runtime.Upscaler(bundle, device="cuda", fallback="none") as upscaler:
                for _ in range(2 * CAPTURED):
                    if not same(upscaler(picture, seed=4), expected[number]):
                        wrong.append(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not wrong


def test_given_noise(fp32, photo):
    H, W = latent_size_needed(72, 56)
    generator = np.random.default_rng(1)
    noise = [generator.standard_normal((1, 4, H, W), np.float32) for _ in range(2 + 4)]
    settings = {"steps": 4, "noise": noise}
    assert psnr(restored(fp32, photo, **settings), restored(fp32, photo, device="cpu", **settings)) >= PSNR["fp32"]


def test_trace(fp32, photo, tmp_path):
    traces = {}
    for device in ("cuda", "cpu"):
        trace = Trace()
        picture = restored(fp32, photo, device=device, trace=trace, steps=3)
        trace.write(tmp_path / f"{device}.safetensors")
        traces[device] = load_file(tmp_path / f"{device}.safetensors")
        assert same(picture, restored(fp32, photo, device=device, steps=3)), "tracing changes nothing"
    assert traces["cuda"].keys() == traces["cpu"].keys() > {"latents", "decoded", "colorfixed"}
    for name, expected in traces["cpu"].items():
        difference = np.abs(traces["cuda"][name] - expected).max()
        print(f"{name}: {difference:.1e} of a standard deviation of {expected.std():.2g}")
        assert difference <= 5e-3 * max(1, expected.std()), name


def test_a_gpu_that_is_not_there(fp16):
    with pytest.raises(runtime.EngineError, match=r"there is no GPU 99 for device 'cuda:99'; use one of cuda:0 \("):
        runtime.Upscaler(fp16, device="cuda:99")


@pytest.mark.parametrize("graph", ["encode", "denoise", "decode"])
def test_an_overflow_is_made_again_on_the_cpu(graph, photo, tmp_path):
    """The CPU's form computes in float32; on the GPU fp16 is fp16."""
    sound = with_forms(shutil.copytree(DEMO_BUNDLE, tmp_path / "sound"), onnxruntime_cpu.BACKEND)
    broken = overflowing(sound, tmp_path / "broken", graph)
    with runtime.Upscaler(broken, device="cuda") as upscaler:
        result, again = upscaler(photo, seed=7), upscaler(photo, seed=7)
    expected = restored(broken, photo, device="cpu", seed=7)
    assert data(result) == data(again) == data(expected)
    assert result.engine == expected.engine
    (hit,) = result.guard_hits
    assert hit.startswith(graph)
    assert "CUDAExecutionProvider" in hit
    with pytest.raises(runtime.GuardError, match=f"^{graph}"):
        restored(broken, photo, seed=7)


@pytest.mark.full_size
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not os.environ.get("DOSSR_FULL_BUNDLE"), reason="no full-size bundle; set DOSSR_FULL_BUNDLE")
def test_the_cpus_picture_at_full_size():
    """The CPU takes up to minutes for its picture."""
    bundle, image = Path(os.environ["DOSSR_FULL_BUNDLE"]), picture_file(128, 128)
    precision = str(open_bundle(bundle).manifest.precision)
    result = restored(bundle, image)
    found = psnr(result, restored(bundle, image, device="cpu"))
    print(f"full size, {precision}: {found:.1f} dB")
    assert found >= PSNR[precision]
