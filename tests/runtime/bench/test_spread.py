"""Percentiles, the median's interval, and whether two runs agree."""

import random
import statistics

import pytest

from runtime.bench.spread import agree, order_statistics, percentile, spread


def test_percentiles_are_interpolated():
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [percentile(values, q) for q in (0, 0.25, 0.5, 0.9, 1)] == [1, 2, 3, 4.6, 5]


@pytest.mark.parametrize(("count", "ranks"), [(1, (0, 0)), (5, (0, 4)), (6, (0, 5)), (9, (1, 7)), (10, (1, 8))])
def test_order_statistics_are_those_of_the_tables(count, ranks):
    """Ranks 2 and 8 of 9, 2 and 9 of 10, counted from 1; fewer than 6 values cannot give 95 %."""
    assert order_statistics(count) == ranks


@pytest.mark.parametrize(("count", "ranks"), [(20, (5, 14)), (30, (9, 20)), (50, (17, 32)), (100, (39, 60))])
def test_order_statistics_of_more_values(count, ranks):
    assert order_statistics(count) == ranks


def test_figures_of_one_value():
    one = spread([[2.0]])
    assert {one.least, one.p50, one.p90, one.p99, one.most, one.low, one.high} == {2.0}
    assert one.count == 1


def test_the_interval_holds_the_medians_of_the_rounds():
    drifting = spread([[1.0] * 20, [2.0] * 20])
    assert (drifting.low, drifting.high) == (1.0, 2.0)


def test_the_interval_holds_the_true_median_as_often_as_it_says():
    generator = random.Random(5)
    held = 0
    for _ in range(1000):
        values = spread([[generator.expovariate(1.0) for _ in range(20)]])
        held += values.low <= 0.6931 <= values.high
    assert held >= 940


def test_runs_of_the_same_machine_agree_and_of_another_do_not():
    generator = random.Random(6)

    def run(center):
        return spread([[generator.gauss(center, 0.02) for _ in range(4)] for _ in range(5)])

    assert agree(run(1.0), run(1.0))
    assert not agree(run(1.0), run(1.3))
    assert run(1.0).p50 == pytest.approx(statistics.median([run(1.0).p50 for _ in range(9)]), abs=0.02)
