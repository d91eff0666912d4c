"""Times that are asserted (others: `test_gpu_latency`): what spans cover, and what our own work costs.

Overhead is what a picture takes outside engine calls. It depends on the picture's size and not on the weights, so that
the smallest graphs show it at the full-size model's shapes; it is held against the least time in which this machine
could do the full-size model's arithmetic, by the ceilings that `dossr bench` measures.
"""

import os
from pathlib import Path

import pytest

import runtime
from engines.base import EngineSettings
from runtime.bench.ceilings import measure_ceilings
from runtime.bench.measure import Bench, Case, measured
from runtime.bench.spread import agree
from tests.tiny import write_tiny_bundle

FULL_SIZE_FLOPS = {5: 9.556e12, 1: 5.286e12}
"""Of a 128x128 picture, by steps, counted from the graphs of a full-size checkpoint (docs/bench.md)."""
FULL_SIZE = Case(width=128, height=128)
COVERAGE, OVERHEAD = 0.97, 0.03
"""Parts of the call and of the picture."""
RUNS = 9

full_size_bundle = pytest.mark.skipif(
    not os.environ.get("DOSSR_FULL_BUNDLE"), reason="no full-size bundle; set DOSSR_FULL_BUNDLE to its folder"
)


def restored(bundle, case, runs=RUNS, **options):
    with runtime.Upscaler(bundle, **options) as upscaler:
        bench = Bench(upscaler, case)
        bench.warm_up()
        return measured(case, [[bench.run() for _ in range(runs)]])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny"))


def test_spans_cover_a_small_model(mini_bundle):
    """Of the median run: a pause of the machine between two spans is not ours."""
    figures = restored(mini_bundle, Case(width=64, height=64), device="cpu")
    covered = 1 - figures.stages["host gaps"].seconds.p50 / figures.total.p50
    print(f"spans cover {covered:.2%} of {figures.total.p50 * 1e3:.1f} ms")
    assert covered >= COVERAGE


def test_two_runs_agree_within_their_own_spread(mini_bundle):
    """Of three pairs one: another program may have begun between the two runs of a pair."""
    case = Case(width=32, height=32)
    with runtime.Upscaler(mini_bundle, device="cpu") as upscaler:
        bench = Bench(upscaler, case)
        bench.warm_up()

        def run():
            return measured(case, [[bench.run() for _ in range(4)] for _ in range(5)]).picture

        pairs = [(run(), run()) for _ in range(3)]
    for a, b in pairs:
        print(f"{a.p50:.4f} s ({a.low:.4f} .. {a.high:.4f}), {b.p50:.4f} s ({b.low:.4f} .. {b.high:.4f})")
    assert any(agree(a, b) for a, b in pairs)


@pytest.mark.parametrize("steps", [5, 1])
def test_overhead_at_the_full_size_models_shapes(tiny, steps):
    """Our own work at 128x128 on one thread, against the full-size model's arithmetic on one thread at the ceiling."""
    case = Case(width=128, height=128, steps=steps)
    figures = restored(tiny, case, device="cpu", threads=1)
    own = [stage for stage in figures.stages if stage not in ("preprocess", "encode", "denoise", "decode")]
    apart = ("load", "finish", "save")
    spent = sum(figures.stages[name].seconds.p50 for name in own if name not in apart)
    threads = len(os.sched_getaffinity(0))
    ceilings = measure_ceilings(EngineSettings(device="cpu", threads=threads), half=False)
    least = FULL_SIZE_FLOPS[steps] / ceilings.flops
    print(f"own work {spent * 1e3:.2f} ms; the graphs need {least:.1f} s at {ceilings.flops / 1e9:.0f} GFLOP/s")
    assert spent <= OVERHEAD * (least + spent)


@pytest.mark.full_size
@full_size_bundle
def test_overhead_of_the_full_size_model():
    figures = restored(Path(os.environ["DOSSR_FULL_BUNDLE"]), FULL_SIZE, runs=1)
    print(f"{figures.picture.p50:.2f} s, of which {figures.overhead:.3%} outside engine calls")
    assert figures.coverage >= COVERAGE
    assert figures.overhead <= OVERHEAD
