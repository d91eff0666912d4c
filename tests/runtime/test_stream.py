"""Upscaler.stream: results in order, batches of one size, and what goes wrong with one picture."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from engines.errors import ImageDecodeError, ImageNotFoundError, OutOfRangeError, SettingsError
from runtime.images import load_picture
from runtime.inputs import pictures_in
from tests.tiny import write_tiny_bundle

SIZES = [(24, 16), (20, 10), (40, 24), (40, 24), (33, 20), (5, 3)]
"""Width and height; padded, the first two and the next three are of one size."""


def photo(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def pixels(result):
    return bytes(memoryview(result.pixels))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def upscaler(bundle):
    with runtime.Upscaler(bundle) as upscaler:
        yield upscaler


@pytest.fixture(scope="module")
def pictures():
    return [photo(*size, seed) for seed, size in enumerate(SIZES)]


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("color_fix", ["wavelet", "adain", "none"])
def test_each_picture_is_the_one_that_it_is_alone(upscaler, pictures, batch, color_fix):
    settings = {"steps": 3, "seed": 7, "color_fix": color_fix}
    alone = [upscaler(picture, **settings) for picture in pictures]
    together = list(upscaler.stream(pictures, batch=batch, **settings))
    assert [result.pixels.shape for result in together] == [result.pixels.shape for result in alone]
    for found, expected in zip(together, alone, strict=True):
        difference = np.asarray(found.pixels).astype(int) - np.asarray(expected.pixels)
        assert np.abs(difference).max() <= 1
        assert found.seed == 7
        assert found.engine == expected.engine


def test_pictures_of_one_size_go_together(upscaler, pictures):
    results = list(upscaler.stream(pictures, batch=8, steps=1))
    groups = [result.timings["total"] for result in results]
    assert len(set(groups)) == 3, "each batch has timings of its own"
    assert groups[0] == groups[1]
    assert groups[2] == groups[3] == groups[4]


def test_what_is_wrong_with_one_picture_is_raised_at_its_turn(upscaler, pictures, tmp_path):
    broken = io.BytesIO()
    Image.fromarray(pictures[0]).save(broken, "PNG")
    given = [pictures[0], tmp_path / "missing.png", pictures[1], broken.getvalue()[:90], pictures[2]]
    found = []
    stream = upscaler.stream(given, batch=4, steps=1)
    while True:
        try:
            found.append(next(stream))
        except StopIteration:
            break
        except runtime.ImageError as error:
            found.append(error)
    assert [type(item) for item in found[1::2]] == [ImageNotFoundError, ImageDecodeError]
    for i in (0, 2, 4):
        assert pixels(found[i]) == pixels(upscaler(given[i], steps=1))


def test_what_is_wrong_with_a_batch_is_raised_for_each_of_its_pictures(tmp_path, pictures):
    bundle = write_tiny_bundle(tmp_path, output_scales={"decode": 1e3})
    with runtime.Upscaler(bundle) as upscaler:
        stream = upscaler.stream(pictures[:2], batch=2, steps=1)
        for _ in range(2):
            with pytest.raises(OutOfRangeError, match=r"^decode gave values up to"):
                next(stream)
        with pytest.raises(StopIteration):
            next(stream)


def test_a_batch_with_wrong_values_is_made_again(tmp_path, bundle, pictures, upscaler):
    broken = write_tiny_bundle(tmp_path, output_scales={"decode": float("nan")})
    with runtime.Upscaler(broken, fallback=bundle) as other:
        results = list(other.stream(pictures[2:5], batch=3, steps=2))
        assert [pixels(r) for r in results] == [pixels(r) for r in upscaler.stream(pictures[2:5], batch=3, steps=2)]
        assert all("decode gave NaN" in result.guard_hits[0] for result in results)


def test_pictures_are_drawn_a_few_ahead_and_in_the_callers_thread(upscaler, pictures):
    drawn = []

    def camera():
        for i in range(100):
            drawn.append(threading.current_thread())
            yield pictures[i % 2]

    stream = upscaler.stream(camera(), batch=2, steps=1)
    for _ in range(4):
        next(stream)
    assert set(drawn) == {threading.current_thread()}
    assert len(drawn) < 20


def test_other_threads_may_use_the_upscaler_meanwhile(upscaler, pictures):
    expected = pixels(upscaler(pictures[5], steps=1))
    stream = upscaler.stream(pictures, batch=2, steps=1)
    next(stream)
    found = []
    thread = threading.Thread(target=lambda: found.append(pixels(upscaler(pictures[5], steps=1))))
    thread.start()
    rest = list(stream)
    thread.join()
    assert found == [expected]
    assert len(rest) == len(pictures) - 1


def test_a_stream_ends_with_its_upscaler(bundle, pictures):
    with runtime.Upscaler(bundle) as upscaler:
        stream = upscaler.stream(pictures, steps=1)
        first = next(stream)
    assert first.pixels.shape == (64, 96, 3)
    with pytest.raises(runtime.EngineError, match="this Upscaler is closed"):
        list(stream)


def test_nothing_to_restore(upscaler):
    assert list(upscaler.stream([])) == []


@pytest.mark.parametrize("batch", [0, 9, 1.0, True, "2"])
def test_batches_that_the_bundle_does_not_take(upscaler, batch):
    with pytest.raises(SettingsError, match=r"batch must be a whole number in 1\.\.8, which the engines take"):
        upscaler.stream([], batch=batch)


@pytest.mark.parametrize(
    "setting", [{"scale": 0}, {"steps": 0}, {"color_fix": "sepia"}, {"bit_depth": 9}, {"seed": -1}]
)
def test_settings_are_refused_before_anything_is_drawn(upscaler, setting):
    def camera():
        raise AssertionError("drawn")
        yield

    with pytest.raises(SettingsError):
        upscaler.stream(camera(), **setting)


def test_pictures_of_one_size_go_together_across_others(upscaler):
    mixed = [photo(*size, seed) for seed, size in enumerate([(24, 16), (40, 24)] * 4)]
    results = list(upscaler.stream(mixed, batch=4, steps=1))
    assert [pixels(result) for result in results] == [pixels(upscaler(picture, steps=1)) for picture in mixed]
    groups = [result.timings["total"] for result in results]
    assert groups == groups[:2] * 4, "two batches"
    assert groups[0] != groups[1]


def test_of_a_batch_that_fails_the_good_pictures_are_restored(tmp_path, pictures):
    """The bundle's decoder gives up on bright pictures."""
    bundle = write_tiny_bundle(tmp_path, output_scales={"decode": 5})
    settings = {"steps": 1, "color_fix": "none"}
    dark = [np.zeros_like(pictures[2]), np.ones_like(pictures[2])]
    with runtime.Upscaler(bundle) as upscaler:
        expected = [pixels(upscaler(picture, **settings)) for picture in dark]
        bright = np.full_like(pictures[2], 255)
        with pytest.raises(OutOfRangeError):
            upscaler(bright, **settings)
        stream = upscaler.stream([dark[0], bright, dark[1]], batch=3, **settings)
        assert pixels(next(stream)) == expected[0]
        with pytest.raises(OutOfRangeError):
            next(stream)
        assert [pixels(result) for result in stream] == expected[1:]


def test_a_loader_of_ones_own(upscaler, pictures):
    def load(number):
        if number == 1:
            raise ImageDecodeError("not this one")
        return load_picture(pictures[number])

    stream = upscaler.stream(range(3), load=load, steps=1)
    assert pixels(next(stream)) == pixels(upscaler(pictures[0], steps=1))
    with pytest.raises(ImageDecodeError, match="not this one"):
        next(stream)
    assert len(list(stream)) == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("photo.png", "the str 'photo.png'"),
        (b"\x89PNG", r"the bytes b'\\x89PNG'"),
        (bytearray(9), "the bytearray "),
        (Path("photos"), r"the PosixPath PosixPath\('photos'\)"),
        (pictures_in(Path(__file__).parent), r"the Found Found\(pictures="),
        (None, "the NoneType None"),
    ],
)
def test_what_is_no_iterable_of_pictures(upscaler, given, told):
    with pytest.raises(SettingsError, match=rf"takes an iterable of pictures, not {told}.*; pass \[picture\], or"):
        upscaler.stream(given)


def test_a_loop_goes_on_after_a_picture_that_failed(upscaler, pictures, tmp_path):
    """As docs/batches.md has it."""
    (tmp_path / "deep").mkdir()
    Image.fromarray(pictures[0]).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"")
    Image.fromarray(pictures[1]).save(tmp_path / "deep" / "3.png")
    failed, restored = [], []
    paths = pictures_in(tmp_path, recursive=True).paths
    stream = upscaler.stream(paths, batch=4, steps=1)
    for path in paths:
        try:
            restored.append((path.name, next(stream).pixels.shape))
        except runtime.DossrError:
            failed.append(path.name)
    assert failed == ["2.png"]
    assert restored == [("1.png", (64, 96, 3)), ("3.png", (40, 80, 3))]
