"""Spans of a call: what they are called, that they are in order, and that they add up."""

import pytest
from PIL import Image

import runtime
from runtime.clock import Clock, Span
from tests.tiny import write_tiny_bundle

BEFORE = ["plan", "load", "bind", "convert", "preprocess", "encode", "condition", "noise", "start"]
STEP = ["denoise", "noise", "solver"]
AFTER = ["decode", "color_fix", "convert", "finish"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    with runtime.Upscaler(write_tiny_bundle(tmp_path_factory.mktemp("bundle")), device="cpu") as upscaler:
        return upscaler(Image.linear_gradient("L").resize((40, 24)), steps=3)


def test_every_piece_of_a_call_has_its_span(result):
    assert [(s.name, s.step) for s in result.spans] == [
        *((name, 0) for name in BEFORE),
        *((name, step) for step in (1, 2, 3) for name in STEP),
        *((name, 0) for name in AFTER),
    ]


def test_spans_are_in_order_and_within_the_total(result):
    instants = [instant for span in result.spans for instant in (span.start, span.end)]
    assert instants == sorted(instants)
    assert instants[0] >= 0
    assert instants[-1] * 1e-9 <= result.timings["total"]


def test_stages_hold_their_spans(result):
    inside = {"encode": ("encode", "condition"), "denoise": ("start", *STEP), "decode": ("decode",)}
    for stage, names in inside.items():
        assert 0 < sum(s.seconds for s in result.spans if s.name in names) <= result.timings[stage]


def test_a_span_is_plain_numbers():
    """A device's clock fills it from its own events."""
    assert Span("denoise", 1_000, 3_500, 2).seconds == pytest.approx(2.5e-6)


def test_a_block_that_fails_leaves_no_span():
    clock = Clock()
    with pytest.raises(ValueError, match="no"), clock.span("load"):
        raise ValueError("no")
    assert clock.spans == ()


def test_each_instant_of_a_tape_is_asked_for_once():
    tape, clock, asked = Clock(), Clock(), []

    def nanoseconds(mark):
        asked.append(mark)
        return clock._began + 1000 * marks.index(mark)

    marks = []
    tape.follow(lambda: marks.append(object()) or marks[-1], nanoseconds)
    with tape.time("denoise"):
        between = tape.done("denoise", tape.now(), 1)
        tape.done("solver", between, 1)
    clock.add(tape)
    assert len(asked) == len(marks) == 5
    assert clock.spans == (Span("denoise", 1000, 2000, 1), Span("solver", 2000, 3000, 1))
    assert clock.timings()["denoise"] == pytest.approx(4e-6)


def test_instants_of_a_device_become_numbers_when_they_are_asked_for():
    """Marks that mean nothing until then, between instants of the host."""
    clock, marks = Clock(), []

    def mark():
        marks.append(f"event {len(marks)}")
        return marks[-1]

    with clock.span("load"):
        pass
    (load,) = clock.spans
    clock.follow(mark, lambda event: began + 1000 * int(event.split()[1]))
    with clock.time("decode"), clock.span("decode"):
        pass
    clock.follow_host()
    with clock.span("finish"):
        pass
    began = load.end + clock._began  # known only now, as a device's are
    assert marks == ["event 0", "event 1", "event 2", "event 3"]
    found = clock.spans
    assert found[0] == load
    assert found[1] == Span("decode", load.end + 1000, load.end + 2000)
    assert found[2].name == "finish"
    assert clock.timings()["decode"] == pytest.approx(3e-6)
