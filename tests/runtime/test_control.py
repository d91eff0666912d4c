"""Watching and stopping: progress, cancellation from another thread, timeouts; on a GPU's stand-in, too."""

import gc
import threading
import time

import numpy as np
import pytest

import runtime
from engines.errors import SettingsError
from runtime.pace import Pace, Work
from tests.tiny import write_tiny_bundle

PHOTO = np.random.default_rng(1).integers(0, 255, (24, 40, 3), np.uint8)
STAGES = ["preprocess", "encode", "denoise", "denoise", "denoise", "decode", "color_fix", "finish"]


def pixels(result):
    return bytes(memoryview(result.pixels))


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    with runtime.Upscaler(write_tiny_bundle(tmp_path_factory.mktemp("bundle"))) as upscaler:
        yield upscaler


def test_progress(upscaler):
    told = []
    upscaler(PHOTO, steps=2, on_progress=told.append)
    assert [progress.stage for progress in told] == STAGES
    assert [progress.step for progress in told if progress.stage == "denoise"] == [0, 1, 2]
    assert {(p.steps, p.tile, p.tiles, p.image, p.images) for p in told[:-1]} == {(2, 0, 1, 0, 1)}


def test_remaining_falls_and_is_near_the_truth(tmp_path):
    told = []
    with runtime.Upscaler(write_tiny_bundle(tmp_path)) as fresh:
        fresh(PHOTO, steps=2, on_progress=told.append)
        assert told[0].remaining is None
        assert told[1].remaining > 0
        told.clear()
        result = fresh(PHOTO, steps=2, on_progress=told.append)
    remaining = [progress.remaining for progress in told]
    assert remaining == sorted(remaining, reverse=True)
    assert 0 < remaining[-1] < remaining[0] < 10 * result.timings["total"] + 1


def test_remaining_in_numbers():
    work, pace = Work(Pace(), 100, 5), Pace()
    assert work.remaining("preprocess", 0, 1.0) is None
    everything = 0.587 + 1.117 + 5 * 1.073 + 2.515
    assert work.remaining("encode", 0, 2.0) == pytest.approx(2.0 * (everything - 0.587) / 0.587)
    pace.learn({"preprocess": 1.0, "encode": 2.0, "denoise": 6.0, "decode": 4.0}, 50, 3)
    known = Work(pace, 100, 5)
    assert known.remaining("preprocess", 0.5, 9.0) == pytest.approx(1.0 + 4.0 + 20.0 + 8.0)
    assert known.remaining("denoise", 2.25, 9.0) == pytest.approx(11.0 + 8.0)
    assert known.remaining("finish", 1, 9.0) == 0
    assert known.remaining("elsewhere", 0, 9.0) is None


@pytest.mark.parametrize("at", range(len(STAGES)))
def test_cancelled_at_every_stage_and_the_next_picture_is_right(upscaler, at):
    expected = pixels(upscaler(PHOTO, steps=2))
    told = []

    def look(progress):
        told.append(progress)
        if len(told) == at + 1:
            control.cancel()

    control = runtime.Control(on_progress=look)
    with pytest.raises(runtime.CancelledError, match=f"cancelled at {STAGES[at]}.*; the picture was not made, call"):
        upscaler(PHOTO, steps=2, control=control)
    assert len(told) == at + 1
    assert control.cancelled
    assert pixels(upscaler(PHOTO, steps=2)) == expected


def test_a_cancelled_control_ends_the_next_call_at_once(upscaler):
    control = runtime.Control()
    control.cancel()
    with pytest.raises(runtime.CancelledError):
        upscaler(PHOTO, control=control)


def test_cancelled_from_another_thread(upscaler):
    begun = threading.Event()
    control = runtime.Control(on_progress=lambda _progress: begun.set())

    def cancel():
        begun.wait(60)
        control.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    start = time.monotonic()
    with pytest.raises(runtime.CancelledError):
        upscaler(np.zeros((240, 320, 3), np.uint8), steps=499, control=control)
    thread.join()
    assert time.monotonic() - start < 10


def test_a_call_that_waits_for_its_turn_can_be_stopped(upscaler):
    waiting, leave = threading.Event(), threading.Event()

    def hold(_progress):
        waiting.set()
        leave.wait(60)

    first = threading.Thread(target=upscaler, args=(PHOTO,), kwargs={"steps": 1, "on_progress": hold})
    first.start()
    assert waiting.wait(60)
    try:
        with pytest.raises(runtime.TimeLimitError, match=r"not done after the timeout of 0\.2 s, at before its first"):
            upscaler(PHOTO, timeout=0.2)
    finally:
        leave.set()
        first.join()


def test_a_cancelled_picture_is_not_made_again_by_a_fallback(tmp_path, caplog):
    sound = write_tiny_bundle(tmp_path / "sound")
    broken = write_tiny_bundle(tmp_path / "broken", output_scales={"decode": float("nan")})
    told = []

    def look(progress):
        told.append(progress.stage)
        if told.count("encode") == 2:
            control.cancel()

    control = runtime.Control(on_progress=look)
    with runtime.Upscaler(broken, fallback=sound) as upscaler:
        with pytest.raises(runtime.CancelledError):
            upscaler(PHOTO, steps=1, control=control)
        assert upscaler(PHOTO, steps=1).guard_hits
    assert "cannot take over: cancelled" not in caplog.text


def test_timeout(upscaler):
    start = time.monotonic()
    with pytest.raises(runtime.TimeLimitError, match=r"timeout of 0\.3 s, at .*; give more time, a smaller picture"):
        upscaler(np.zeros((240, 320, 3), np.uint8), steps=499, timeout=0.3)
    assert time.monotonic() - start < 10
    assert upscaler(PHOTO, steps=1, timeout=60).pixels.shape == (96, 160, 3)


def test_what_on_progress_raises_ends_the_call(upscaler):
    def fail(_progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        upscaler(PHOTO, on_progress=fail)
    assert upscaler(PHOTO, steps=1).pixels.shape == (96, 160, 3)


def test_each_call_has_its_own_control(upscaler):
    """The one that is cancelled ends, the others give what they give alone."""
    expected = {seed: pixels(upscaler(PHOTO, seed=seed, steps=20)) for seed in range(4)}
    controls = {seed: runtime.Control() for seed in expected}
    found = {}

    def restore(seed):
        try:
            found[seed] = pixels(upscaler(PHOTO, seed=seed, steps=20, control=controls[seed]))
        except runtime.CancelledError as error:
            found[seed] = error

    controls[2].cancel()
    threads = [threading.Thread(target=restore, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(found.pop(2), runtime.CancelledError)
    del expected[2]
    assert found == expected


@pytest.mark.parametrize("batch", [1, 2])
def test_a_cancelled_stream_gives_what_is_there_and_ends(upscaler, batch):
    control = runtime.Control()
    stream = upscaler.stream([PHOTO] * 9, batch=batch, steps=1, control=control)
    expected = pixels(upscaler(PHOTO, steps=1))
    assert pixels(next(stream)) == expected
    control.cancel()
    found = []
    with pytest.raises(runtime.CancelledError):
        found.extend(stream)
    assert list(stream) == []
    assert all(pixels(result) == expected for result in found)
    assert len(found) < batch
    gc.collect()
    assert pixels(upscaler(PHOTO, steps=1)) == expected


def test_a_stream_tells_which_picture(upscaler):
    told = []
    list(upscaler.stream([PHOTO] * 3, batch=2, steps=1, on_progress=told.append))
    assert {(progress.image, progress.images) for progress in told} == {(0, 3), (2, 3)}
    told.clear()
    list(upscaler.stream(iter([PHOTO]), steps=1, on_progress=told.append))
    assert {(progress.image, progress.images) for progress in told} == {(0, None)}


def test_a_pictures_timeout_leaves_the_rest_of_the_stream(upscaler):
    """The first picture is held up; what is under way beside it may be late, too, on a GPU."""
    slow = []

    def look(progress):
        if progress.image == 0 and not slow:
            slow.append(time.sleep(0.5))

    stream = upscaler.stream([PHOTO] * 4, steps=1, control=runtime.Control(on_progress=look, timeout=0.4))
    with pytest.raises(runtime.TimeLimitError):
        next(stream)
    assert len(list(stream)) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout": 0}, "timeout must be a number of seconds above 0, not 0"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": True}, "timeout must be"),
        ({"timeout": "3"}, "timeout must be"),
        ({"on_progress": 3}, "on_progress must be a function of one Progress"),
        ({"control": 3}, r"control must be a runtime\.Control"),
        ({"control": runtime.Control(), "timeout": 3}, "on_progress and timeout belong to the control"),
    ],
)
def test_settings(upscaler, settings, message):
    with pytest.raises(SettingsError, match=message):
        upscaler(PHOTO, **settings)
    with pytest.raises(SettingsError, match=message):
        upscaler.stream([PHOTO], **settings)


def test_upscale_takes_a_control(tmp_path):
    control = runtime.Control()
    control.cancel()
    with pytest.raises(runtime.CancelledError):
        runtime.upscale(PHOTO, bundle=write_tiny_bundle(tmp_path), control=control)
    runtime.close()
