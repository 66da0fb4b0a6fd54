"""The step log against the steps one by one."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.log.steps import StepLog


def test_a_stretch_is_its_steps() -> None:
    log = StepLog()
    log.rows.add(0.0, 6.0, 1.0, 1.0, 3, 2)
    log.gap(9.0)
    log.flush()
    intervals = log.itl.distribution()
    assert (log.steps, log.busy_s) == (3, 6.0)
    assert (intervals.count, intervals.max) == (7, pytest.approx(9.0))
    assert intervals.mean == pytest.approx((2 * (1 + 2 + 3) + 9) / 7)


def test_nothing_logged_is_nothing() -> None:
    log = StepLog()
    log.flush()
    assert (log.steps, log.busy_s) == (0, 0.0)
    assert log.busy_between(0.0, 1.0) == 0.0
    edges_s, busy = log.timeline(0.0)
    assert (edges_s.tolist(), busy.tolist()) == ([0.0], [0.0])


@given(st.randoms(use_true_random=False))
def test_busy_time_lies_where_the_stretches_are(rng: Random) -> None:
    log = StepLog()
    spans = []
    for _ in range(rng.randint(1, 30)):
        start_s = rng.uniform(0, rng.choice([1, 100, 5000]))
        end_s = start_s + rng.uniform(0, rng.choice([0.1, 10, 300]))
        spans.append((start_s, end_s))
        log.rows.add(start_s, end_s, end_s - start_s, 0.0, 1, 1)
        if rng.random() < 0.2:
            log.flush()
    last_s = max(end_s for _, end_s in spans)
    edges_s, busy = log.timeline(last_s)
    rights_s = np.append(edges_s[1:], last_s)
    for left_s, right_s, share in zip(edges_s, rights_s, busy, strict=True):
        expected_s = sum(max(0.0, min(e, right_s) - max(s, left_s)) for s, e in spans)
        assert share * (right_s - left_s) == pytest.approx(expected_s, abs=1e-6)
    assert log.busy_s == pytest.approx(sum(e - s for s, e in spans))
    assert log.busy_between(0.0, 1e9) == pytest.approx(log.busy_s)


def test_more_rows_than_are_kept_are_folded_on_the_way() -> None:
    log = StepLog()
    for i in range(50_000):
        log.rows.add(i, i + 1.0, 1.0, 0.0, 1, 3)
    log.flush()
    assert (log.steps, log.busy_s) == (50_000, 50_000.0)
    assert log.itl.distribution().count == 150_000
