"""The table and the page: whole, readable, self-contained."""

import re
from html.parser import HTMLParser

import pytest

from runtime.bench.page import page
from runtime.bench.plots import against, against_batch, distribution, roofline, waterfall
from runtime.bench.svg import Axis, Plot, number
from runtime.bench.table import lines, rate, seconds

VOID = {"meta", "line", "rect", "circle", "polyline", "br"}


def spread(p50, low=None, high=None):
    return {
        "count": 3,
        "least": p50 * 0.9,
        "p50": p50,
        "p90": p50 * 1.1,
        "p99": p50 * 1.2,
        "most": p50 * 1.2,
        "low": low or p50 * 0.95,
        "high": high or p50 * 1.05,
    }


def case(width=32, height=32, steps=2, p50=0.5):
    work = {"flops": 4 * 10**10, "least_bytes": 10**8, "unfused_bytes": 10**9, "flops_per_second": 1e11}
    work |= {"of_arithmetic": 0.5, "of_ceiling": 0.5}
    names = {"load": "apart", "encode": "engine", "denoise": "engine", "solver": "own", "host gaps": "own"}
    return {
        "width": width,
        "height": height,
        "steps": steps,
        "batch": 1,
        "picture": spread(p50),
        "call": spread(p50 * 1.1),
        "coverage": 0.99,
        "overhead": 0.012,
        "seconds": [p50 * 0.98, p50, p50 * 1.04],
        "uncounted": {"decode": "the work of operator Det is not known"},
        "stages": [
            {"name": name, "calls": 2, "engine": kind == "engine", "apart": kind == "apart", "share": 0.3}
            | {"seconds": spread(0.1)}
            | (work if kind == "engine" else {})
            for name, kind in names.items()
        ],
        "spans": [["load", 0, 0.0, 0.01], ["encode", 0, 0.01, 0.2], ["denoise", 1, 0.2, 0.3], ["denoise", 2, 0.3, 0.5]],
    }


def stream(batch, p50):
    figures = {"pictures": 8, "seconds": spread(p50), "rounds": [p50], "pictures_per_second": 1 / p50, "of_call": 0.6}
    return {"width": 32, "height": 32, "batch": batch} | figures


def report(cases=None, peers=(), gpus=(), throughput=()):
    return {
        "schema": 1,
        "date": "2026-11-23T20:00:00+00:00",
        "command": ["dossr bench", "--bundle", "<b>&"],
        "bundle": {"folder": "<b>&", "precision": "fp32", "checkpoint": {"file": "model.ckpt"}},
        "engine": "onnxruntime 1.32.0, CPUExecutionProvider",
        "threads": 2,
        "order": 3,
        "rounds": 3,
        "machine": {
            "processor": {"model": "Example", "cores usable": 2, "governor": None},
            "system": {"memory available": 1 << 30},
            "gpus": list(gpus),
            "gpus after": list(gpus),
            "versions": {"python": "3.11"},
        },
        "ceilings": {
            "product": 1e11,
            "convolution": 2e11,
            "flops": 2e11,
            "copy": 2e10,
            "precision": "fp32",
            "how": "small",
        },
        "cold": {
            "start": spread(0.1),
            "load": spread(0.4),
            "first": spread(0.9),
            "processes": 3,
            "peak_memory": 10**9,
            "gpu_memory": 10**9 if gpus else None,
        },
        "cases": cases or [case()],
        "throughput": list(throughput),
        "peers": list(peers),
        "failed": {"openvino": "PackageMissingError: not <installed>"},
    }


def peer(psnr=60.0):
    names = ("preprocess", "encode", "denoise", "decode", "color_fix")
    return {
        "name": "eager",
        "description": "torch eager",
        "load": 3.0,
        "seconds": spread(1.0),
        "runs": [0.9, 1.0, 1.1],
        "ratio": spread(0.5),
        "stages": {name: {"seconds": 0.2, "ratio": 0.4} for name in names},
        "peak_memory": 2 * 10**9,
        "gpu_memory": None,
        "psnr": psnr,
    }


GPU = {"name": "Example GPU", "driver": "580", "SM clock": "1980 MHz", "temperature": "33"}
STREAMS = [stream(1, 0.4), stream(4, 0.25)]
FULL = report([case(), case(64, 64, p50=2.0), case(steps=5, p50=0.9)], [peer(), peer(None)], [GPU], STREAMS)


class Balanced(HTMLParser):
    """Every element is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID or (tag in ("line", "rect", "circle") and self.get_starttag_text()[-2:] != "/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("content", [report(), FULL], ids=["least", "full"])
def test_page_is_whole_and_loads_nothing(content):
    text = page(content)
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    tags = {tag for tag, _ in parser.seen}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    assert not [attrs for _, attrs in parser.seen if {"src", "href"} & attrs.keys()]
    assert not re.search(r"url\(|@import|https?:", text)
    assert "prefers-color-scheme:dark" in text
    assert "nan" not in text.lower().replace("nance", "")


def test_what_a_report_holds_is_escaped():
    text = page(report())
    assert "<b>&" not in text.replace("<b>&lt;", "")
    assert "&lt;b&gt;&amp;" in text
    assert "not &lt;installed&gt;" in text


def test_a_busy_machine_is_said():
    busy = report()
    busy["machine"]["system"]["load of the last minute"] = 1.0
    words = "The machine was busy (load 1 on 2 cores"
    assert words in page(busy)
    assert words in "\n".join(lines(busy))
    assert words not in page(report())


def test_a_stage_above_the_ceiling_stays_in_the_plot():
    above = report()
    for stage in above["cases"][0]["stages"]:
        stage["flops_per_second"] = 9e11
    heights = [float(y) for y in re.findall(r'cy="(-?[\d.]+)"', roofline(above))]
    assert heights
    assert min(heights) > 0


def test_plots_of_the_full_page():
    text = page(FULL)
    assert text.count("<svg") == 6
    assert page(report()).count("<svg") == 3
    for words in ("Example GPU", "580", "model.ckpt", "equal", "60.0 dB", "64x64"):
        assert words in text


def test_each_span_is_a_bar():
    svg = waterfall(case())
    assert svg.count("<rect") == 4
    assert 'class="apart"' in svg
    assert svg.count('class="engine"') == 3


def test_each_picture_is_a_dot():
    assert distribution(report()).count("<circle") == 3
    assert distribution(FULL).count("<circle") == 9


def test_roofline():
    assert roofline(report()).count("<circle") == 4
    without = case()
    without["stages"] = [s for s in without["stages"] if not s["engine"]]
    assert roofline(report([without])) == ""


def test_latency_against_one_thing_only():
    cases = FULL["cases"]
    assert against(cases, pixels=True).count("<circle") == 2
    assert against(cases, pixels=False).count("<circle") == 2
    assert against([cases[0], case(16, 64)], pixels=True) == ""  # as many pixels
    assert against(cases[:1], pixels=True) == against([cases[0], cases[2]], pixels=True) == ""


def test_batches():
    svg = against_batch(FULL)
    assert svg.count("<circle") == 2
    assert "a call of its own: 550 ms" in svg
    assert against_batch(report(throughput=STREAMS[:1])) == against_batch(report()) == ""
    assert "batches of 1" in page(report(throughput=STREAMS[:1]))
    assert "No batch size was asked for" in page(report())


def test_table():
    text = "\n".join(lines(FULL))
    assert [line.split() for line in text.splitlines() if line.startswith("batches of")] == [
        ["batches", "of", "1", "400", "ms", "2.5", "380", "ms", "..", "420", "ms", "8", "0.600"],
        ["batches", "of", "4", "250", "ms", "4", "238", "ms", "..", "262", "ms", "8", "0.600"],
    ]
    assert "stream" not in "\n".join(lines(report()))
    for words in ("Example GPU, driver 580", "32x32, 2 steps", "64x64", "eager", "0.500", "equal", "operator Det"):
        assert words in text
    assert "not compared: openvino: PackageMissingError" in text
    assert max(map(len, lines(report([case()], [peer()], throughput=STREAMS)))) <= 110


@pytest.mark.parametrize(
    ("value", "text"),
    [(52.41, "52.4 s"), (123.4, "123 s"), (1.0, "1.00 s"), (0.9999, "1.00 s"), (0.0123, "12.3 ms"), (0.0009, "900 us")],
)
def test_seconds(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(2.05e11, "205 G"), (1.5e12, "1.50 T"), (3.2e6, "3.20 M"), (12.0, "12 ")])
def test_rates(value, text):
    assert rate(value) == text


def test_axes():
    x = Axis(least=0, most=10, start=100, end=200)
    assert (x.at(0), x.at(5), x.at(10)) == (100, 150, 200)
    assert x.ticks() == [0, 2, 4, 6, 8, 10]
    y = Axis(least=0.5, most=2000, start=300, end=0, log=True)
    assert y.ticks() == [1, 10, 100, 1000]
    assert y.at(0.5) == 300
    assert y.at(2000) == 0
    assert Axis(least=4, most=60, start=0, end=1, log=True).ticks() == [5, 10, 20, 50]


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.05, "0.05"), (1500, "1.5k"), (2e12, "2T"), (3e9, "3G")])
def test_numbers(value, text):
    assert number(value) == text


def test_hints_and_labels_are_escaped():
    plot = Plot("a < b", 100)
    plot.bar(0, 0.2, 0, 5, "engine", 'x < "y"')
    plot.text(0, 0, "<i>")
    assert 'aria-label="a &lt; b"' in plot.svg()
    assert 'width="1.0"' in plot.svg()
    assert "<title>x &lt; &quot;y&quot;</title></rect>" in plot.svg()
    assert "&lt;i&gt;" in plot.svg()
