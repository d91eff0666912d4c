"""The guard: its limits, and who makes a picture again. On tiny bundles whose graphs multiply by too much."""

import json
import logging
import math
import threading

import numpy as np
import pytest
from PIL import Image

import runtime
import solvers
from engines.errors import BundleNotFoundError, GuardError, NonFiniteError, OutOfRangeError, SettingsError
from runtime import fallback
from runtime.guard import LATENT_LIMIT, PICTURE_LIMIT, check_picture, check_start, check_step
from runtime.trace import Trace
from tests.runtime.test_cli import run
from tests.runtime.test_engine_pool import budget, padded
from tests.tiny import write_tiny_bundle

NAN = float("nan")
STEP = solvers.plan(steps=5).steps[0]
PHOTO = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
CHECKS = {
    "encode": (check_start, LATENT_LIMIT),
    "denoise, step 1 (timestep 499)": (
        lambda largest: check_step(largest, 1, STEP),
        LATENT_LIMIT * (STEP.p_x - STEP.p_out),
    ),
    "decode": (check_picture, PICTURE_LIMIT),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Its decode gives NaN: the hit comes last, after everything has been recorded and drawn."""
    return write_tiny_bundle(tmp_path_factory.mktemp("broken"), output_scales={"decode": NAN})


def pixels(result):
    return bytes(memoryview(result.pixels))


@pytest.mark.parametrize("stage", CHECKS)
def test_limits(stage):
    check, limit = CHECKS[stage]
    for fine in (0.0, 1e-40, limit):
        check(fine)
    remedy = "; use a bundle of --precision fp32 (as --bundle or --fallback), or check the checkpoint"
    for value, words, kind in (
        (NAN, "NaN", NonFiniteError),
        (math.inf, "infinity", NonFiniteError),
        (3.4e38, "values up to 3.4e+38", OutOfRangeError),
        (65504.0, "values up to 6.55e+04", OutOfRangeError),
        (math.nextafter(limit, math.inf), "values up to ", OutOfRangeError),
    ):
        with pytest.raises(GuardError) as raised:
            check(value)
        assert type(raised.value) is kind
        assert str(raised.value).startswith(f"{stage} gave {words}")
        assert str(raised.value).endswith(f", expected at most {limit:.4g}{remedy}")


@pytest.mark.parametrize("prediction", list(solvers.Prediction))
@pytest.mark.parametrize("t1", [333, 500, 1000])
def test_a_row_may_make_of_the_limit_what_it_makes(prediction, t1):
    """Also where it multiplies by much: all tensors at the limit, with the worst signs."""
    for number, step in enumerate(solvers.plan(steps=5, prediction=prediction, t1=t1).steps, 1):
        worst = LATENT_LIMIT * (abs(step.p_x) + abs(step.p_out) + abs(step.p_hat))
        check_step(worst, number, step)
        check_step(LATENT_LIMIT, number, step)


@pytest.mark.parametrize(
    ("graph", "scale", "stage"),
    [
        ("encode", 1e4, "encode"),
        ("denoise", -1e4, r"denoise, step 1 \(timestep 499\)"),
        ("decode", 1e3, "decode"),
    ],
)
def test_values_out_of_range_are_an_error(tmp_path, graph, scale, stage):
    with (
        runtime.Upscaler(write_tiny_bundle(tmp_path, output_scales={graph: scale})) as upscaler,
        pytest.raises(OutOfRangeError, match=f"^{stage} gave values up to .*, expected at most .*; use a bundle of"),
    ):
        upscaler(PHOTO)


def test_sound_bundles_are_left_alone(tmp_path):
    for prediction in ("x0-from-eps", "v"):
        with runtime.Upscaler(write_tiny_bundle(tmp_path / prediction, prediction=prediction)) as upscaler:
            for steps in (1, 5, 20):
                assert not upscaler(PHOTO, steps=steps, color_fix="none").guard_hits
            assert upscaler.guard_hits == {}


@pytest.mark.parametrize("noise", ["philox", "torch-cpu", "given"])
def test_the_picture_is_that_of_the_fallback(sound, broken, noise):
    """From the same noise: the sources begin anew."""
    if noise == "given":
        noise = [np.random.default_rng(i).standard_normal((1, 4, 8, 16), np.float32) for i in range(5)]
    with runtime.Upscaler(sound) as upscaler:
        expected = upscaler(PHOTO, steps=3, seed=5, noise=noise)
    with runtime.Upscaler(broken, fallback=sound) as upscaler:
        for _ in range(2):
            result = upscaler(PHOTO, steps=3, seed=5, noise=noise)
            assert pixels(result) == pixels(expected)
            assert result.engine == expected.engine
            assert result.seed == 5


def test_hits_are_told_and_counted(sound, broken, caplog):
    with runtime.Upscaler(broken, fallback=sound) as upscaler:
        asked = upscaler.description
        results = [upscaler(PHOTO) for _ in range(2)]
        assert upscaler.guard_hits == {asked: 2}
        assert upscaler.description == asked
    hit = f"decode gave NaN, expected at most 20, on {asked}"
    assert asked.endswith(f"CPUExecutionProvider, bundle {broken.name}")
    for result in results:
        assert result.guard_hits == (hit,)
        assert result.notices == (f"{hit}; made again on {result.engine}",)
        assert result.engine.endswith(f"bundle {sound.name}")
    assert [(r.levelno, r.name, r.message) for r in caplog.records] == [
        (logging.WARNING, "dossr", f"{hit} ({n} of {n} pictures so far); the picture is made again on {result.engine}")
        for n in (1, 2)
    ]


def test_the_asked_engine_is_tried_again_for_each_picture(tmp_path, sound):
    """Its decode multiplies by 18: noise comes out of range, black without noise does not."""
    black, none = np.zeros_like(PHOTO), [np.zeros((1, 4, 8, 16), np.float32)] * 7
    with runtime.Upscaler(write_tiny_bundle(tmp_path, output_scales={"decode": 18}), fallback=sound) as upscaler:
        hits = [len(upscaler(black, noise=noise).guard_hits) for noise in (none, "philox", none, "philox")]
        assert hits == [0, 1, 0, 1]
        assert list(upscaler.guard_hits.values()) == [2]


def test_nothing_is_opened_before_it_is_needed(sound, broken):
    with runtime.Upscaler(sound, fallback=broken) as upscaler:
        upscaler(PHOTO)
        assert len(upscaler._ways._open) == 1
    with runtime.Upscaler(broken, fallback=sound) as upscaler:
        upscaler(PHOTO)
        opened = list(upscaler._ways._open.values())
        assert [way.bundle.folder for way in opened] == [broken, sound]
        assert all(way.pool.open_graphs for way in opened)
    assert not any(way.pool.open_graphs for way in opened)


@pytest.mark.parametrize("allowed", ["none", "auto"])
def test_without_another_way_it_is_the_error(broken, allowed, caplog):
    with runtime.Upscaler(broken, device="cpu", fallback=allowed) as upscaler:
        with pytest.raises(NonFiniteError, match=r"^decode gave NaN, expected at most 20; use a bundle of"):
            upscaler(PHOTO)
        assert list(upscaler.guard_hits.values()) == [1]
    assert not caplog.records


def test_where_every_way_fails_each_is_named(tmp_path, broken):
    other = write_tiny_bundle(tmp_path / "other", output_scales={"encode": 1e4})
    with (
        runtime.Upscaler(broken, fallback=other) as upscaler,
        pytest.raises(
            NonFiniteError,
            match=f"^decode gave NaN, .*, bundle {broken.name}; encode gave values up to .*, bundle other; use a bun",
        ),
    ):
        upscaler(PHOTO)


def test_a_fallback_that_cannot_take_over_leaves_the_error(tmp_path, broken, caplog):
    small = write_tiny_bundle(tmp_path / "small", static=(8, 8))
    with (
        runtime.Upscaler(broken, fallback=small) as upscaler,
        pytest.raises(NonFiniteError, match=r"^decode gave NaN, expected at most 20; use a bundle of"),
    ):
        upscaler(PHOTO)
    assert "bundle small cannot take over: the picture is 24x16, this bundle takes at most 16x16" in caplog.text


def test_a_fallback_damaged_since_leaves_the_error(tmp_path, broken, caplog):
    damaged = write_tiny_bundle(tmp_path / "damaged")
    with runtime.Upscaler(broken, fallback=damaged) as upscaler:
        model = damaged / "onnx/decode/model.onnx"
        model.write_bytes(bytes(model.stat().st_size))
        with pytest.raises(NonFiniteError):
            upscaler(PHOTO)
    assert "a safer engine cannot take over" in caplog.text
    assert "has sha256" in caplog.text


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (5, SettingsError, 'fallback must be "auto", "none" or the path of a bundle, not 5'),
        (None, SettingsError, 'fallback must be "auto", "none" or the path'),
        (
            "FOLDER/none-there",
            BundleNotFoundError,
            "the fallback is .*none-there: no bundle at .*, or leave the fallback out",
        ),
    ],
)
def test_fallbacks_that_are_none(tmp_path, sound, given, error, message):
    given = given.replace("FOLDER", str(tmp_path)) if isinstance(given, str) else given
    with pytest.raises(error, match=message):
        runtime.Upscaler(sound, fallback=given)


def test_a_fallback_of_another_kind_is_refused(tmp_path, sound):
    other = write_tiny_bundle(tmp_path, prediction="v")
    with pytest.raises(SettingsError, match="another noise schedule, prediction type or scale than the asked one"):
        runtime.Upscaler(sound, fallback=other)


def test_a_trace_holds_the_picture_that_came_back(tmp_path, sound, broken):
    traces = [Trace(), Trace()]
    for bundle, trace in zip((sound, broken), traces, strict=True):
        with runtime.Upscaler(bundle, fallback=sound) as upscaler:
            upscaler(PHOTO, trace=trace)
        trace.write(tmp_path / "trace.safetensors")
        assert (tmp_path / "trace.safetensors").stat().st_size > 0
    assert traces[0]._tensors == traces[1]._tensors


def test_progress_begins_anew(sound, broken):
    told = []
    with runtime.Upscaler(broken, fallback=sound) as upscaler:
        upscaler(PHOTO, steps=1, on_progress=lambda progress: told.append((progress.stage, progress.step)))
    stages = [("preprocess", 0), ("encode", 0), ("denoise", 0), ("denoise", 1), ("decode", 1), ("color_fix", 1)]
    assert [stage for stage in told if stage[0] != "finish"] == stages * 2


def test_threads_get_their_own_pictures_and_every_hit_is_counted(sound, broken):
    with runtime.Upscaler(sound) as upscaler:
        expected = {seed: pixels(upscaler(PHOTO, seed=seed, color_fix="none")) for seed in range(6)}
    assert len(set(expected.values())) == 6
    found = {}
    with runtime.Upscaler(broken, fallback=sound) as upscaler:

        def restore(seed):
            found[seed] = pixels(upscaler(PHOTO, seed=seed, color_fix="none"))

        threads = [threading.Thread(target=restore, args=(seed,)) for seed in expected]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(upscaler.guard_hits.values()) == [6]
    assert found == expected


def test_closed_after_a_fallback(sound, broken):
    upscaler = runtime.Upscaler(broken, fallback=sound)
    upscaler(PHOTO)
    upscaler.close()
    upscaler.close()
    with pytest.raises(runtime.EngineError, match="closed"):
        upscaler(PHOTO)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    return padded(write_tiny_bundle(tmp_path_factory.mktemp("heavy")))


def test_within_a_budget_one_bundle_is_open_at_a_time(sound, broken, heavy):
    with runtime.Upscaler(sound) as upscaler:
        expected = pixels(upscaler(PHOTO))
    with runtime.Upscaler(broken, fallback=heavy, max_memory=budget(4)) as upscaler:
        ways, open_together = upscaler._ways._open, []

        def look(progress):
            if progress.stage not in ("encode", "denoise", "decode"):
                return
            open_together.append([way.bundle.folder for way in ways.values() if way.pool.open_graphs])

        for _ in range(2):
            assert pixels(upscaler(PHOTO, steps=5, on_progress=look)) == expected
            assert not any(way.pool.open_graphs or way._workspaces for way in ways.values())
        assert open_together == ([[broken]] * 8 + [[heavy]] * 8) * 2


def test_a_fallback_beyond_the_budget_leaves_the_error(broken, heavy, caplog):
    with (
        runtime.Upscaler(broken, fallback=heavy, max_memory=budget(0)) as upscaler,
        pytest.raises(NonFiniteError, match=r"^decode gave NaN"),
    ):
        upscaler(PHOTO)
    assert "graph preprocess alone needs about" in caplog.text


def test_other_errors_of_the_asked_engine_are_not_for_the_fallback(sound, broken):
    with runtime.Upscaler(broken, fallback=sound) as upscaler, pytest.raises(SettingsError, match="noise holds 1"):
        upscaler(PHOTO, noise=[np.zeros((1, 4, 8, 16), np.float32)])


def test_command_line(sound, broken, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(PHOTO).save(photo)
    done = run(photo, "-o", tmp_path / "a.png", "--bundle", broken, "--fallback", sound, "--json")
    report = json.loads(done.stdout)
    assert report["engine"].endswith(f"bundle {sound.name}")
    (hit,) = report["guard_hits"]
    assert report["notices"] == [f"{hit}; made again on {report['engine']}"]
    assert done.stderr.splitlines() == [
        f"{hit} (1 of 1 pictures so far); the picture is made again on {report['engine']}"
    ]
    done = run(photo, "-o", tmp_path / "b.png", "--bundle", sound, "--json")
    assert json.loads(done.stdout)["guard_hits"] == json.loads(done.stdout)["notices"] == []
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    done = run(photo, "-o", tmp_path / "c.png", "--bundle", broken, "--fallback", "none")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("error: NonFiniteError: decode gave NaN, expected at most 20; use a bundle")
    assert not (tmp_path / "c.png").exists()
    done = run(photo, "-o", tmp_path / "c.png", "--bundle", broken, "--fallback", tmp_path / "none")
    assert done.stderr.startswith(f"error: BundleNotFoundError: the fallback is {tmp_path / 'none'}: no bundle at")


def test_ways_that_come_to_the_same_are_one(sound, broken, monkeypatch):
    monkeypatch.setattr(fallback, "WAYS", (*fallback.WAYS, *fallback.WAYS))
    with runtime.Upscaler(broken, fallback=broken) as upscaler, pytest.raises(NonFiniteError):
        upscaler(PHOTO)
    assert list(upscaler.guard_hits.values()) == [1]
