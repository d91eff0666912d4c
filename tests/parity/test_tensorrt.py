"""TensorRT itself: engines built here, their pictures against the CPU's, and what their options promise.

Runs where TensorRT's builder and an NVIDIA GPU are; what can be shown without them is in tests/engines/trt.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import runtime
from engines.base import EngineSettings
from engines.bundle import open_bundle
from engines.errors import EngineUnavailableError
from engines.nvidia import driver
from engines.trt import TensorRT
from engines.trt_plans import PLANS
from runtime.bench.measure import Bench, Case, measured
from runtime.bench.photo import picture_file
from runtime.cuda import unavailable
from tests.parity.exporting import DEMO, exported_bundle
from tests.paths import REPOSITORY

PSNR = {"fp16": 45.0, "fp32": 60.0}
"""dB to the CPU's float32 picture of the same weights."""
QUICK = ("--profile", "16x24", "--optimization-level", "1")
"""Of a build whose speed does not matter."""
LOAD = 2.0
"""Seconds in which engines that are built are opened."""
BARS = {"H200": {"picture": 0.030, "one step": 0.016, "batch of 8": 8 / 50}}
"""Seconds of the full-size model's 128x128 pictures, by a part of the GPU's name."""
FULL_SIZE = os.environ.get("DOSSR_FULL_BUNDLE")


def missing():
    """Why no engines are built here; empty where they are."""
    try:
        driver()
        from engines.trt_library import IS_LEAN
    except EngineUnavailableError as error:
        return str(error)
    return "TensorRT's builder is not installed, the lean runtime is" if IS_LEAN else unavailable("cuda:0")


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(missing()), reason=missing())]


def build(bundle, *options):
    """Adds engines to a bundle by the command line; the folder of plans that came of it."""
    before = set((bundle / PLANS).glob("[!.]*"))
    done = subprocess.run(
        [sys.executable, "-m", "export.build", "--bundle", str(bundle), "--engine", "tensorrt", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (made,) = set((bundle / PLANS).glob("[!.]*")) - before
    return made


@pytest.fixture(scope="module", params=list(PSNR))
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def bundle(precision, tmp_path_factory):
    """The demo with engines of three shapes."""
    copy = shutil.copytree(exported_bundle(DEMO, "--precision", precision), tmp_path_factory.mktemp("trt") / precision)
    build(copy, "--profile", "16x24", "--profile", "4x16x24", "--profile", "1x8x8:1x16x16:1x32x32")
    return copy


def photo(width=48, height=32, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def restored(bundle, image, *, engine="tensorrt", device="cuda", cuda_graphs=True, **settings):
    with runtime.Upscaler(bundle, engine=engine, device=device, cuda_graphs=cuda_graphs, fallback="none") as upscaler:
        return upscaler(image, **settings)


def data(result):
    return bytes(memoryview(result.pixels))


def psnr(a, b):
    a, b = (np.asarray(memoryview(result.pixels)).astype(float) for result in (a, b))
    return 10 * np.log10(255**2 / max(np.mean((a - b) ** 2), 1e-12))


def test_every_plan_was_verified(bundle, precision):
    (manifest,) = (bundle / PLANS).glob("[!.]*/manifest.json")
    raw = json.loads(manifest.read_text())
    assert raw["precision"] == precision
    assert raw["graphs"].keys() == open_bundle(bundle).manifest.graphs.keys()
    for name, record in raw["graphs"].items():
        assert record["verification"], name
        print(precision, name, record["seconds"], record["size"], record["verification"], record["messages"])


@pytest.mark.parametrize("color_fix", ["wavelet", "adain", "none"])
@pytest.mark.parametrize("steps", [1, 5])
def test_the_cpus_picture(bundle, precision, color_fix, steps):
    image = picture_file(48, 32)
    result = restored(bundle, image, color_fix=color_fix, steps=steps)
    assert result.engine.startswith("tensorrt ")
    expected = restored(bundle, image, engine="onnxruntime", device="cpu", color_fix=color_fix, steps=steps)
    found = psnr(result, expected)
    print(f"{precision}, {color_fix}, {steps} steps: {found:.1f} dB")
    assert found >= PSNR[precision]


@pytest.mark.parametrize("size", [(48, 32), (16, 16), (64, 64), (30, 21)])
def test_other_shapes(bundle, precision, size):
    picture = photo(*size)
    expected = restored(bundle, picture, engine="onnxruntime", device="cpu")
    if size[0] % 16 or size[1] % 16:  # padded to 32x32: another picture at its right and bottom
        assert restored(bundle, picture).image.size == (4 * size[0], 4 * size[1])
    else:
        assert psnr(restored(bundle, picture), expected) >= PSNR[precision]


def test_a_picture_in_tiles_is_the_cpus(bundle, precision):
    image, settings = picture_file(100, 90), {"steps": 2, "tile": 32}
    result = restored(bundle, image, **settings)
    found = psnr(result, restored(bundle, image, engine="onnxruntime", device="cpu", **settings))
    print(f"{precision}, in tiles: {found:.1f} dB")
    assert found >= PSNR[precision]


def test_a_picture_larger_than_every_engine_is_cut(bundle):
    with runtime.Upscaler(bundle, engine="tensorrt", fallback="none") as upscaler:
        assert upscaler.plan((100, 90)).tiles > 1
        assert upscaler(photo(100, 90), steps=1).image.size == (400, 360)


def test_a_launch_is_bit_for_bit_the_plain_picture(bundle):
    with (
        runtime.Upscaler(bundle, engine="tensorrt", fallback="none") as recorded,
        runtime.Upscaler(bundle, engine="tensorrt", cuda_graphs=False, fallback="none") as plain,
    ):
        for settings in ({}, {"steps": 2, "order": 1}, {"color_fix": "adain"}, {"bit_depth": 16}):
            for seed in range(4):
                launched, expected = (way(photo(seed=seed), seed=seed, **settings) for way in (recorded, plain))
                assert data(launched) == data(expected)
                assert launched.replayed == (seed > 0)
                assert not expected.replayed


def test_batches_are_the_single_pictures(bundle, precision):
    given = [photo(seed=seed) for seed in range(10)]
    with runtime.Upscaler(bundle, engine="tensorrt", fallback="none") as upscaler:
        alone = [upscaler(picture) for picture in given]
        for a, b in zip(upscaler.stream(given, batch=4), alone, strict=True):
            assert psnr(a, b) >= PSNR[precision]


def test_engines_load_fast(bundle):
    restored(bundle, photo())  # the library, the driver's context and the disk's cache are there
    begin = time.perf_counter()
    with runtime.Upscaler(bundle, engine="tensorrt", fallback="none"):
        seconds = time.perf_counter() - begin
    print(f"load {seconds:.2f} s")
    assert seconds < LOAD


@pytest.mark.parametrize(
    "options",
    [
        ("--strip-weights",),
        ("--weight-streaming",),
        ("--hardware-compatible", "ampere+"),
        ("--hardware-compatible", "same-cc"),
        ("--no-timing-cache", "--workspace", "1GiB"),
    ],
    ids=lambda options: options[0].strip("-"),
)
def test_options_leave_the_picture(tmp_path, options):
    copy = shutil.copytree(exported_bundle(DEMO, "--precision", "fp16"), tmp_path / "bundle")
    made = build(copy, *QUICK, *options)
    sizes = sum(path.stat().st_size for path in made.glob("*.plan"))
    image = picture_file(48, 32)
    with runtime.Upscaler(copy, engine="tensorrt", fallback="none") as upscaler:
        results = [upscaler(image) for _ in range(3)]
    print(f"{' '.join(options)}: {sizes / 2**20:.1f} MiB of plans, {results[-1].engine}, {results[-1].replayed=}")
    expected = restored(copy, image, engine="onnxruntime", device="cpu")
    assert all(psnr(result, expected) >= PSNR["fp16"] for result in results)
    if options == ("--strip-weights",):
        weights = sum(path.stat().st_size for path in (copy / "onnx").rglob("*.data"))
        assert sizes < weights


def test_the_lean_runtime_runs_a_version_compatible_plan(tmp_path):
    pytest.importorskip("tensorrt_lean")
    copy = shutil.copytree(exported_bundle(DEMO, "--precision", "fp16"), tmp_path / "bundle")
    build(copy, *QUICK, "--version-compatible")
    image = tmp_path / "photo.png"
    image.write_bytes(picture_file(48, 32))
    script = (
        "import sys; sys.modules['tensorrt'] = None\n"
        "import runtime\n"
        f"with runtime.Upscaler({str(copy)!r}, engine='tensorrt', fallback='none') as upscaler:\n"
        f"    result = upscaler({str(image)!r})\n"
        f"print(result.engine); result.save({str(tmp_path / 'lean.png')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("tensorrt lean ")
    whole = restored(copy, image)
    whole.save(tmp_path / "full.png")
    lean, full = (runtime.images.load_picture(tmp_path / f"{name}.png").pixels for name in ("lean", "full"))
    difference = np.abs(np.asarray(memoryview(lean)).astype(int) - np.asarray(memoryview(full)))
    assert difference.max() <= 2


def test_the_cache_of_times_makes_the_next_build_faster(tmp_path, monkeypatch):
    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path / "cache"))
    seconds = []
    for number in range(2):
        copy = shutil.copytree(exported_bundle(DEMO, "--precision", "fp16"), tmp_path / str(number))
        begin = time.perf_counter()
        build(copy, *QUICK)
        seconds.append(time.perf_counter() - begin)
    print(f"without times {seconds[0]:.1f} s, with {seconds[1]:.1f} s")
    assert list((tmp_path / "cache" / "tensorrt").glob("timing-*.cache"))


@pytest.fixture(scope="module")
def full_bundle():
    """The full-size model with engines for one picture of 128x128, and for eight."""
    bundle = Path(FULL_SIZE)
    try:
        TensorRT().profiles(open_bundle(bundle), EngineSettings(device="cuda"))
    except EngineUnavailableError:
        build(bundle, "--profile", "64x64", "--profile", "8x64x64")
    return bundle


def seconds_of(upscaler, case):
    bench = Bench(upscaler, case)
    bench.warm_up()
    return measured(case, [[bench.run() for _ in range(10)] for _ in range(4)]).picture.p50


@pytest.mark.full_size
@pytest.mark.skipif(not FULL_SIZE, reason="no full-size bundle; set DOSSR_FULL_BUNDLE to its folder")
def test_full_size(full_bundle):
    """Its picture against ONNX Runtime's in float32 on the CPU, how fast it loads, and its times."""
    image = picture_file(128, 128)
    begin = time.perf_counter()
    with runtime.Upscaler(full_bundle, engine="tensorrt", fallback="none") as upscaler:
        load = time.perf_counter() - begin
        pictures = [upscaler(image) for _ in range(3)]
        assert pictures[-1].replayed
        found = {
            "picture": seconds_of(upscaler, Case(width=128, height=128)),
            "one step": seconds_of(upscaler, Case(width=128, height=128, steps=1)),
        }
        begin = time.perf_counter()
        count = len(list(upscaler.stream([image] * 128, batch=8)))
        found["batch of 8"] = 8 * (time.perf_counter() - begin) / count
    print(f"load {load:.2f} s; " + ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in found.items()))
    expected = restored(full_bundle, image, engine="onnxruntime", device="cpu")
    assert psnr(pictures[-1], expected) >= PSNR["fp16"]
    assert load < LOAD
    name = driver().gpus[0].name
    for part, bars in BARS.items():
        if part in name:
            assert {what: seconds for what, seconds in found.items() if seconds > bars[what]} == {}
