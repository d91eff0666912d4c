"""The Upscaler on a bundle of tiny graphs: sizes, settings, noise, threads, failures."""

import threading

import numpy as np
import pytest
from PIL import Image

import runtime
import solvers
from engines.errors import (
    EngineError,
    ImageTooLargeError,
    NonFiniteError,
    SettingsError,
)
from runtime.trace import Trace
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def upscaler(bundle):
    with runtime.Upscaler(bundle, device="cpu") as opened:
        yield opened


def photo(width=24, height=16):
    rng = np.random.default_rng(7)
    small = Image.fromarray(rng.integers(0, 255, (3, 3, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(1, 1), (3, 130), (130, 3), (17, 31), (16, 16), (640, 360), (2, 1)])
def test_any_size(upscaler, size):
    result = upscaler(photo(*size), steps=2)
    assert result.image.size == (4 * size[0], 4 * size[1])
    assert result.seed == 42
    assert result.peak_memory > 1_000_000
    assert result.timings["total"] >= result.timings["denoise"] > 0


@pytest.mark.parametrize(("scale", "size"), [(1, (24, 16)), (2.5, (60, 40)), (8, (192, 128)), (0.01, (1, 1))])
def test_scales(upscaler, scale, size):
    assert upscaler(photo(), scale=scale).image.size == size


def test_same_seed_same_picture_other_seed_another(upscaler):
    first, again, other = (upscaler(photo(), seed=seed, color_fix="none").image for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_settings_change_the_picture(upscaler):
    base = upscaler(photo()).image.tobytes()
    for change in ({"steps": 3}, {"order": 1}, {"color_fix": "adain"}, {"color_fix": "none"}, {"noise": "torch-cpu"}):
        assert upscaler(photo(), **change).image.tobytes() != base, change


def test_given_noise_equals_the_source_it_came_from(upscaler):
    from runtime.kernels import Tensor
    from runtime.noise import Philox

    source, draws = Philox(42), []
    for _ in range(5):
        draw = Tensor((1, 4, 8, 16))
        source.fill(draw)
        draws.append(np.array(memoryview(draw)))
    given = upscaler(photo(), steps=3, noise=draws).image
    assert given.tobytes() == upscaler(photo(), steps=3, noise="philox").image.tobytes()


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ([], r"noise holds 0 tensors, expected steps \+ 2"),
        ([np.zeros((1, 4, 8, 16), np.float32)] * 4, "noise holds 4 tensors"),
        ([np.zeros((1, 4, 8, 8), np.float32)] * 5, "noise tensor 0 does not fit"),
        ([np.zeros((1, 4, 8, 16))] * 5, "noise tensor 0 does not fit"),
        ([None] * 5, "noise tensor 0 does not fit"),
    ],
)
def test_given_noise_that_does_not_fit(upscaler, draws, message):
    with pytest.raises(SettingsError, match=message):
        upscaler(photo(), steps=3, noise=draws)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"steps must be in 1\.\.499"),
        ({"steps": 500}, r"steps must be in 1\.\.499"),
        ({"order": 4}, "order must be 1, 2 or 3, not 4"),
        ({"order": 2.0}, "order must be 1, 2 or 3"),
        ({"noise": "perlin"}, "noise must be philox or torch-cpu"),
        ({"noise": 5}, "noise must be philox or torch-cpu"),
        ({"color_fix": []}, "color_fix must be one of"),
        ({"color_fix": "lab"}, "color_fix must be one of wavelet, adain, none"),
        ({"seed": -1}, r"seed must be a whole number in 0\.\.2\*\*64-1"),
        ({"seed": 2**64}, "seed must be"),
        ({"seed": 1.5}, "seed must be"),
        ({"scale": 0}, "scale must be a number above 0"),
        ({"scale": float("nan")}, "scale must be"),
        ({"scale": 17}, "at most 16"),
        ({"scale": "4"}, "scale must be"),
    ],
)
def test_settings_out_of_range(upscaler, settings, message):
    with pytest.raises(SettingsError, match=message):
        upscaler(photo(), **settings)


def test_a_plan_of_ones_own(upscaler):
    own = upscaler(photo(), plan=solvers.plan(steps=4, order=2)).image
    assert own.tobytes() == upscaler(photo(), steps=4, order=2).image.tobytes()
    with pytest.raises(SettingsError, match="give either a plan or them"):
        upscaler(photo(), steps=4, plan=solvers.plan(steps=4))


@pytest.mark.parametrize("other", [{"t1": 333}, {"prediction": "v"}])
def test_a_plan_that_contradicts_the_training_is_refused_unless_forced(upscaler, other):
    plan = solvers.plan(steps=2, **other)
    with pytest.raises(SettingsError, match="the bundle was trained with t1 = 500 and x0-from-eps"):
        upscaler(photo(), plan=plan)
    assert upscaler(photo(), plan=plan, force_plan=True).image.size == (96, 64)


def test_prediction_type_comes_from_the_bundle(tmp_path, upscaler):
    with runtime.Upscaler(write_tiny_bundle(tmp_path, prediction="v")) as other:
        assert other(photo(), color_fix="none").image.tobytes() != upscaler(photo(), color_fix="none").image.tobytes()


@pytest.mark.parametrize("graph", ["encode", "denoise", "decode"])
def test_nan_is_named_and_no_picture_comes_back(tmp_path, graph):
    with (
        runtime.Upscaler(write_tiny_bundle(tmp_path, output_scales={graph: float("nan")})) as broken,
        pytest.raises(
            NonFiniteError, match=f"{graph}.*gave NaN, expected at most .*; use a bundle of --precision fp32"
        ),
    ):
        broken(photo())


def test_separate_condition_is_used(tmp_path):
    with (
        runtime.Upscaler(
            write_tiny_bundle(tmp_path / "a", separate_condition=True, output_scales={"condition": 0.5})
        ) as differs,
        runtime.Upscaler(write_tiny_bundle(tmp_path / "b", separate_condition=True)) as equal,
        runtime.Upscaler(write_tiny_bundle(tmp_path / "c")) as shared,
    ):
        pictures = [u(photo(), color_fix="none").image.tobytes() for u in (differs, equal, shared)]
    assert pictures[1] == pictures[2]
    assert pictures[0] != pictures[1]


def test_static_bundle_pads_small_pictures_and_refuses_large_ones(tmp_path, caplog):
    with runtime.Upscaler(write_tiny_bundle(tmp_path, static=(16, 24))) as static:
        assert static(photo(48, 32)).image.size == (192, 128)
        assert not caplog.records
        for _ in range(2):
            assert static(photo(5, 3)).image.size == (20, 12)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "padded, here to 48x32" in caplog.text
        with pytest.raises(ImageTooLargeError, match="the picture is 49x32, this bundle takes at most 48x32"):
            static(photo(49, 32), tile=None)


def test_threads_get_the_pictures_that_they_asked_for(upscaler):
    expected = {seed: upscaler(photo(), seed=seed).image.tobytes() for seed in range(8)}
    found = {}

    def restore(seed):
        size = (24, 16) if seed % 2 == 0 else (40, 40)
        upscaler(photo(*size), seed=seed)
        found[seed] = upscaler(photo(), seed=seed).image.tobytes()

    threads = [threading.Thread(target=restore, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_results_do_not_share_memory(upscaler):
    first = upscaler(np.asarray(photo()), seed=1).image
    before = bytes(memoryview(first))
    upscaler(np.asarray(photo()), seed=2)
    assert bytes(memoryview(first)) == before


def test_a_result_in_words_is_short(upscaler):
    result = upscaler(photo(), steps=50)
    assert len(result.spans) > 100
    assert "spans" not in repr(result)
    assert len(repr(result)) < 900


def test_a_trace_holds_one_picture(upscaler):
    trace = Trace()
    upscaler(photo(), trace=trace)
    with pytest.raises(SettingsError, match="this Trace already holds preprocessed of another picture"):
        upscaler(photo(), trace=trace)


def test_closed_upscaler_says_so(bundle):
    upscaler = runtime.Upscaler(bundle)
    upscaler.close()
    upscaler.close()
    with pytest.raises(EngineError, match="closed"):
        upscaler(photo())


def test_arguments_of_another_kind(bundle, upscaler):
    with pytest.raises(SettingsError, match='device must be a name like "auto"'):
        runtime.Upscaler(bundle, device=None)
    with pytest.raises(SettingsError, match="bundle must be the path of a folder"):
        runtime.Upscaler(3)
    with pytest.raises(SettingsError, match=r"plan must be what solvers\.plan"):
        upscaler(photo(), plan="dos-sde")
    with pytest.raises(SettingsError, match="provider_options must be a mapping or"):
        runtime.Upscaler(bundle, provider_options=["a"])
    with pytest.raises(SettingsError, match="the CPU provider takes no options, given a"):
        runtime.Upscaler(bundle, device="cpu", provider_options={"a": "b"})
    with pytest.raises(SettingsError, match=r"trace must be a runtime\.trace\.Trace"):
        upscaler(photo(), trace="trace.safetensors")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, 10**12])
def test_threads_out_of_range(bundle, threads):
    with pytest.raises(SettingsError, match=r"threads must be a whole number in 1\.\.1024"):
        runtime.Upscaler(bundle, threads=threads)


def test_upscale_keeps_one_upscaler_until_closed(bundle, monkeypatch):
    opened = []
    original = runtime.Upscaler.__init__
    monkeypatch.setattr(
        runtime.Upscaler, "__init__", lambda self, *a, **k: (opened.append(1), original(self, *a, **k))[1]
    )
    threads = [threading.Thread(target=runtime.upscale, args=(photo(),), kwargs={"bundle": bundle}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runtime.upscale(photo(), bundle=bundle).size == (96, 64)
    assert len(opened) == 1
    runtime.close()
    runtime.upscale(photo(), bundle=bundle)
    assert len(opened) == 2
    runtime.close()


def test_default_bundle_comes_from_the_environment(bundle, monkeypatch):
    monkeypatch.setenv("DOSSR_BUNDLE", str(bundle))
    assert runtime.upscale(photo()).size == (96, 64)
    runtime.close()
