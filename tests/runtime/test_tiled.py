"""Pictures in tiles on a bundle of tiny graphs, whose networks look at no neighbor: tiled and whole agree."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

import runtime
from engines.errors import MemoryBudgetError, NonFiniteError, SettingsError
from runtime import _native
from runtime.rows import PixelRows
from runtime.trace import Trace
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), separate_condition=True)


@pytest.fixture(scope="module")
def upscaler(bundle):
    with runtime.Upscaler(bundle, device="cpu") as opened:
        yield opened


def photo(width=150, height=70, seed=0, dtype=np.uint8, channels=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def pixels(result):
    return np.asarray(result.pixels).astype(np.int64)


@pytest.mark.parametrize("fix", ["wavelet", "adain", "none"])
@pytest.mark.parametrize("noise", ["philox", "torch-cpu", "given"])
def test_the_picture_is_the_whole_ones(upscaler, fix, noise):
    if noise == "given":
        noise = [np.random.default_rng(i).standard_normal((1, 4, 40, 80), np.float32) for i in range(5)]
    settings = {"color_fix": fix, "noise": noise, "steps": 3}
    whole, tiled = (pixels(upscaler(photo(), tile=tile, **settings)) for tile in (None, 32))
    assert tiled.shape == (280, 600, 3)
    assert np.abs(tiled - whole).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(150, 5), (5, 150), (65, 65), (64, 65), (129, 97), (1, 100)])
def test_any_size(upscaler, width, height):
    given = photo(width, height)
    whole, tiled = (pixels(upscaler(given, tile=tile, steps=2)) for tile in (None, 32))
    assert np.abs(tiled - whole).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bit_depth", [8, 16])
def test_depths_and_alpha(upscaler, dtype, bit_depth):
    given = photo(80, 40, dtype=dtype, channels=4)
    whole, tiled = (pixels(upscaler(given, tile=tile, steps=1, bit_depth=bit_depth)) for tile in (None, 32))
    assert np.abs(tiled - whole).max() <= 257 ** (bit_depth // 16)


def test_other_scales(upscaler):
    assert upscaler(photo(), tile=32, steps=1, scale=1.5).pixels.shape == (105, 225, 3)


def test_neither_tile_batch_nor_threads_change_a_bit(upscaler):
    found = set()
    try:
        for batch in (1, 2, 5, 8):
            for threads in (1, 3):
                _native.set_num_threads(threads)
                found.add(bytes(upscaler(photo(), tile=32, tile_batch=batch, steps=2).pixels))
    finally:
        _native.set_num_threads(2)
    assert len(found) == 1


def test_static_engines_take_any_size(tmp_path):
    bundle = write_tiny_bundle(tmp_path, static=(16, 24))
    with runtime.Upscaler(bundle, device="cpu") as static:
        given = photo(100, 90)
        assert static.plan((100, 90)).tile == (16, 24)
        result = static(given, steps=2, color_fix="none")  # whose margin is less than the wavelet fix looks aside
    with runtime.Upscaler(write_tiny_bundle(tmp_path), device="cpu") as free:
        assert np.abs(pixels(result) - pixels(free(given, tile=None, steps=2, color_fix="none"))).max() <= 1


def test_large_pictures_are_cut_and_small_ones_are_not(upscaler):
    assert upscaler.plan((192, 192)).tiles == 1
    assert upscaler.plan((4096, 3072)).tiles == 32 * 43
    given = photo(300, 200)
    assert bytes(upscaler(given, steps=1).pixels) == bytes(upscaler(given, steps=1, tile=64).pixels)
    assert bytes(upscaler(photo(), steps=1).pixels) == bytes(upscaler(photo(), steps=1, tile=None).pixels)


def test_a_stream_of_both(upscaler):
    given = [photo(150, 70, seed=1), photo(20, 20), photo(20, 20, seed=2), photo(150, 70, seed=3)]
    found = list(upscaler.stream(given, batch=2, steps=1, tile=32))
    assert [bytes(result.pixels) for result in found] == [
        bytes(upscaler(picture, steps=1, tile=32).pixels) for picture in given
    ]


def test_progress_tells_tiles(upscaler):
    told = []
    upscaler(photo(), steps=2, tile=32, on_progress=told.append)
    stages = [progress.stage for progress in told]
    tiles = upscaler.plan((150, 70), tile=32).tiles
    assert tiles == 2 * 4
    assert stages == ["encode"] * tiles + ["denoise"] * 2 * tiles + ["decode"] * tiles + ["finish"]
    denoise = [(progress.step, progress.tile) for progress in told if progress.stage == "denoise"]
    assert denoise == [(step, tile) for step in range(2) for tile in range(tiles)]
    assert {progress.tiles for progress in told[:-1]} == {tiles}


@pytest.mark.parametrize("at", [0, 3, 9, 20, 31])
def test_a_picture_in_tiles_is_cancelled(upscaler, at):
    control = runtime.Control(on_progress=lambda _: next(countdown) or control.cancel())
    countdown = iter([1] * at + [0] * 99)
    with pytest.raises(runtime.CancelledError):
        upscaler(photo(), steps=2, tile=32, control=control)
    assert upscaler(photo(20, 20), steps=1).pixels.shape == (80, 80, 3)


def test_a_trace_has_what_is_there_whole(upscaler, caplog):
    whole, tiled = Trace(), Trace()
    upscaler(photo(), steps=2, tile=None, trace=whole)
    upscaler(photo(), steps=2, tile=32, trace=tiled)
    assert "so the trace has no preprocessed, decoded and colorfixed" in caplog.text
    assert whole._tensors.keys() - tiled._tensors.keys() == {"preprocessed", "decoded", "colorfixed"}
    for name, copies in tiled._tensors.items():
        for (shape, here), (expected, there) in zip(copies, whole._tensors[name], strict=True):
            assert shape == expected
            np.testing.assert_allclose(np.frombuffer(here, np.float32), np.frombuffer(there, np.float32), atol=2e-5)


def test_tiles_without_a_color_fix_are_told(upscaler, caplog):
    upscaler(photo(), steps=1, tile=32)
    upscaler(photo(), steps=1, tile=None, color_fix="none")
    assert "tinted" not in caplog.text
    upscaler(photo(), steps=1, tile=32, color_fix="none")
    assert caplog.text.count("tiles may be tinted; use the wavelet one") == 1


class Sink(PixelRows):
    def __init__(self):
        super().__init__()
        self.begun = 0
        self.heights = []

    def begin(self, shape, dtype, metadata):
        super().begin(shape, dtype, metadata)
        self.metadata = metadata
        self.begun += 1
        self.heights = []

    def write(self, rows):
        super().write(rows)
        self.heights.append(rows.shape[0])


@pytest.mark.parametrize(("tile", "heights"), [(None, [280]), (32, [64, 216])])
def test_rows_go_to_a_sink(upscaler, tile, heights):
    sink = Sink()
    report = upscaler.rows(photo(), sink, steps=2, tile=tile)
    assert bytes(sink.pixels) == bytes(upscaler(photo(), steps=2, tile=tile).pixels)
    assert (sink.begun, sink.heights) == (1, heights)
    assert report.timings["total"] > 0
    assert report.engine


@pytest.mark.parametrize("tile", [None, 32])
def test_a_sink_gets_the_metadata_first(upscaler, tile):
    image = Image.fromarray(photo())
    exif = Image.Exif()
    exif[0x010F] = "camera"
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    sink = Sink()
    report = upscaler.rows(file.getvalue(), sink, steps=1, tile=tile)
    assert b"camera" in sink.metadata["exif"]
    assert report.metadata == sink.metadata


def test_what_a_sink_raises_ends_the_call(upscaler):
    class Full(Sink):
        def write(self, rows):
            raise runtime.OutputError("no space left")

    with pytest.raises(runtime.OutputError, match="no space"):
        upscaler.rows(photo(), Full(), steps=1, tile=32)


def test_a_picture_in_tiles_is_made_again(tmp_path, bundle):
    broken = write_tiny_bundle(tmp_path, output_scales={"decode": float("nan")}, separate_condition=True)
    sink = Sink()
    with runtime.Upscaler(broken, device="cpu", fallback=bundle) as upscaler:
        report = upscaler.rows(photo(), sink, steps=1, tile=32)
        assert len(report.guard_hits) == 1
        assert sink.begun == 2
    with runtime.Upscaler(bundle, device="cpu") as upscaler:
        assert bytes(sink.pixels) == bytes(upscaler(photo(), steps=1, tile=32).pixels)
    with (
        runtime.Upscaler(broken, device="cpu", fallback="none") as upscaler,
        pytest.raises(NonFiniteError, match="decode gave NaN"),
    ):
        upscaler(photo(), steps=1, tile=32)


def test_threads_get_their_own_pictures(upscaler):
    expected = {seed: bytes(upscaler(photo(seed=seed), steps=1, tile=32).pixels) for seed in range(3)}
    found = {}

    def restore(seed):
        found[seed] = bytes(upscaler(photo(seed=seed), steps=1, tile=32).pixels)

    threads = [threading.Thread(target=restore, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_settings_are_checked(upscaler):
    with pytest.raises(
        SettingsError, match=r"tile_batch must be a whole number in 1\.\.8, which the engines take, not 9"
    ):
        upscaler(photo(), tile=32, tile_batch=9)
    with pytest.raises(SettingsError, match="tile must be"):
        upscaler(photo(), tile=33)
    with pytest.raises(SettingsError, match="tile must be"):
        upscaler.stream([], tile=33)


@pytest.mark.parametrize("fix", ["wavelet", "adain", "none"])
@pytest.mark.parametrize("tile", [None, 32])
def test_the_plan_counts_the_calls(bundle, fix, tile):
    with runtime.Upscaler(bundle, device="cpu") as upscaler:
        calls = dict.fromkeys(upscaler.manifest.graphs, 0)
        ready = upscaler._ways.asked.pool.ready

        def counted(call):
            calls[call.graph] += 1
            return ready(call)

        upscaler._ways.asked.pool.ready = counted
        settings = {"steps": 3, "color_fix": fix, "tile": tile, "tile_batch": 3}
        plan = upscaler.plan(photo(), **settings)
        upscaler(photo(), **settings)
        assert plan.calls == calls
        assert plan.engine_calls == sum(calls.values())
        assert (plan.tile_batch, plan.tiles) == ((1, 1) if tile is None else (3, 8))


def test_the_plan_knows_the_time_of_a_picture_like_the_last(bundle):
    with runtime.Upscaler(bundle, device="cpu") as upscaler:
        settings = {"steps": 2, "tile": 32}
        plan = upscaler.plan((150, 70), **settings)
        assert plan.seconds is None
        assert "time not known before a picture was made" in str(plan)
        result = upscaler(photo(), **settings)
        again = upscaler.plan((150, 70), **settings)
        assert again.seconds == pytest.approx(result.timings["total"], rel=0.5)
        larger = upscaler.plan((1500, 700), **settings)
        assert larger.seconds > 10 * again.seconds
        assert again.memory == result.peak_memory
        canvases = larger.canvas_bytes - again.canvas_bytes
        assert larger.memory - again.memory == canvases + 51 * (1500 * 700 - 150 * 70)
        assert str(again).startswith("150x70: 8 tiles of 32x32, 1 at a time; 2 steps, 56 engine calls; memory about")


def test_the_plan_measures_where_it_is_asked_to(bundle):
    with runtime.Upscaler(bundle, device="cpu") as upscaler:
        upscaler(photo(40, 40), steps=2)
        plan = upscaler.plan((150, 70), steps=2, tile=32, measure=True)
        assert plan.tiles == 8
        assert plan.seconds > 0
        assert plan.memory < 600 << 20, "this process', not the full-size model's"
        assert upscaler.plan((150, 70), steps=2, tile=32).memory == plan.memory


def test_stages_are_timed_as_of_whole_pictures(upscaler):
    for fix in ("wavelet", "adain"):
        whole, tiled = (upscaler(photo(), steps=1, color_fix=fix, tile=tile) for tile in (None, 32))
        assert tiled.timings.keys() == whole.timings.keys()
        assert sum(tiled.timings.values()) < 2 * tiled.timings["total"] + 1e-3


def test_a_budget_makes_tiles_smaller(bundle):
    with runtime.Upscaler(bundle, device="cpu", max_memory="100GiB") as upscaler:
        assert upscaler.plan((160, 96)).tiles == 1
        way = upscaler._ways.asked  # what this process holds already differs from one Upscaler to the next
        way.budget = way.pool._budget = way.memory((1, 48, 80), None) - 1
        plan = upscaler.plan((160, 96))
        assert plan.tiles > 1
        found, expected = (upscaler(photo(160, 96), steps=1, tile=tile) for tile in ("auto", max(plan.tile)))
        assert np.array_equal(pixels(found), pixels(expected))
        with pytest.raises(MemoryBudgetError, match="by the full-size model's measure; give more"):
            upscaler.plan((160, 96), tile=None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"image": (0, 5)}, "0x5"),
        ({"image": (10**6, 10**6)}, "at most 64000000 are read"),
        ({"image": (5, 5), "color_fix": "lab"}, "color_fix must be one of"),
        ({"image": (5, 5), "steps": 0}, "steps must be"),
    ],
)
def test_plans_of_nothing(upscaler, asked, message):
    with pytest.raises(runtime.DossrError, match=message):
        upscaler.plan(**asked)


def test_a_closed_upscaler_has_no_plan(bundle):
    opened = runtime.Upscaler(bundle, device="cpu")
    opened.close()
    with pytest.raises(runtime.EngineError, match="closed"):
        opened.plan((5, 5))


def test_memory_chooses_the_tile_batch(bundle):
    settings = {"tile": 64, "steps": 1}
    with runtime.Upscaler(bundle, device="cpu") as free:
        one, four = (free.plan((1000, 1000), tile_batch=batch, **settings) for batch in (1, 4))
        assert four.memory > one.memory
        base = free._ways.asked.pool._base
    spare = 200 << 20
    with runtime.Upscaler(bundle, device="cpu", max_memory=base + (4 << 30)) as rich:
        assert rich.plan((300, 300), **settings).tile_batch == 1
    with runtime.Upscaler(bundle, device="cpu", max_memory=one.memory + spare) as tight:
        assert tight.plan((300, 300), **settings).tile_batch == 1
        with pytest.raises(MemoryBudgetError, match=r"4 at a time, need about .*; give more, or take a smaller tile"):
            tight.plan((1000, 1000), tile_batch=4, **settings)
        with pytest.raises(MemoryBudgetError, match=r"max_memory is .* latent pixels in tiles of 64x64, 1 at a time"):
            tight.plan((8000, 8000), **settings)
        with pytest.raises(
            MemoryBudgetError, match=r"a whole picture of 1000x1000 needs about .*; give more, or let it"
        ):
            tight.plan((1000, 1000), tile=None)
        assert tight(photo(), **settings).pixels.shape == (280, 600, 3)
