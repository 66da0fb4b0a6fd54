"""Figures of two sides: what is said of their differences, and how often that is wrong."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from builders import Row, coefficients, plan, workload
from scipy.special import stdtrit

from kvsim.difference.figures import PARTS, alike, differences, figures_of
from kvsim.plan.plan import Plan
from kvsim.sim.executor import Serial, whole
from kvsim.sim.run import Case


def test_an_interval_is_students_of_the_pairs_widened_for_all_figures() -> None:
    a = [{"x": 10.0, "y": 1.0, "same": 3.0} for _ in range(5)]
    b = [{"x": 10.0 + apart, "y": 1.0 + apart, "same": 3.0} for apart in (1.0, 2.0, 3.0, 4.0, 5.0)]
    found = differences(a, b, 0.95, 0.01)
    for factor, asked in ((2, 1), (6, 3)):
        width = float(stdtrit(4, 1 - 0.05 / factor / 2)) * math.sqrt(2.5 / 5)
        each = differences(a, b, 0.95, 0.01, asked)["x"]
        assert each.difference == 3.0 and each.half_width == pytest.approx(width)
    assert (found["x"].a, found["x"].b, found["x"].share, found["x"].verdict) == (10.0, 13.0, 0.3, "higher")
    assert (found["same"].verdict, found["same"].half_width) == ("same", 0.0)


def test_what_was_not_measured_is_no_figure() -> None:
    found = differences([{"x": math.nan, "y": 1.0}], [{"x": math.nan, "y": 2.0}], 0.95, 0.01)
    assert list(found) == ["y"] and found["y"].verdict == "open" and found["y"].half_width is None


def test_a_share_ties_by_points_and_other_figures_by_their_size() -> None:
    random = np.random.default_rng(1)
    noise = random.normal(0, 1e-4, 6)
    a = [{"prefix_hit_rate": 0.1, "x": 0.1} for _ in noise]
    b = [{"prefix_hit_rate": 0.105 + each, "x": 0.105 + each} for each in noise]
    found = differences(a, b, 0.95, 0.01)
    assert (found["prefix_hit_rate"].verdict, found["x"].verdict) == ("tie", "higher")


TIMES = coefficients(p1_s_per_token=0.01, const_s=0.05, a_s_per_kv_token=0.0005)


def small(made: Plan, seed: int) -> dict[str, float]:
    """Figures of a run of twenty random requests."""
    random = Random(seed)
    now, rows = 0.0, []
    for i in range(20):
        now += random.expovariate(2.0)
        rows.append(Row(now, 0, random.randint(2, 8), ((random.randrange(3), 8), (-1 - i, random.randint(1, 20)))))
    (found,) = whole(Serial().run([Case("pd", "pd", made, workload(rows), seed)]))
    return figures_of(alike([found], made.config)[0], made.config, made.num_gpus)


def test_of_two_hundred_pairs_of_the_same_case_at_most_one_in_twenty_is_called_different() -> None:
    """Sides of a pair are of other seeds each, five runs of each; a difference is any figure that is called one."""
    made = plan(1, 1, times=TIMES, block_size=4, num_blocks=60, nic_bytes_per_s=2e5)
    runs = [small(made, seed) for seed in range(100)]
    random, different = np.random.default_rng(7), 0
    for _ in range(200):
        drawn = random.choice(len(runs), 10, replace=False)
        a, b = ([runs[place] for place in half] for half in (drawn[:5], drawn[5:]))
        different += any(each.moved for each in differences(a, b, 0.95, 0.01).values())
    assert different <= 10


def test_parts_of_ttft_sum_to_it_on_either_side_and_in_the_difference() -> None:
    made = plan(1, 1, times=TIMES, block_size=4, num_blocks=60, nic_bytes_per_s=2e5)
    slow = plan(1, 1, times=TIMES, block_size=4, num_blocks=60, nic_bytes_per_s=1e4)
    a, b = ([small(one, seed) for seed in range(4)] for one in (made, slow))
    found = differences(a, b, 0.95, 0.01)
    for side in ("a", "b", "difference"):
        total = math.fsum(getattr(found[part], side) for part in PARTS)
        assert total == pytest.approx(getattr(found["ttft_mean_ms"], side), rel=1e-9)
    assert found["transfer"].verdict == "higher"
