"""Spreading of coarse times: what it does to any times, by properties and by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvsim.workload.dequantise import dequantised
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload


def at(times_s: list[float]) -> Workload:
    tokens = np.arange(1, len(times_s) + 1, dtype=np.int32)
    return Workload.private(np.array(times_s, dtype=np.float64), tokens, tokens, WorkloadInfo("t", "generic"))


def test_a_gap_is_filled_evenly() -> None:
    assert dequantised(at([0, 0, 0, 3, 3, 6])).arrival_s.tolist() == [0, 1, 2, 3, 4.5, 6]


def test_a_pause_is_not_filled() -> None:
    """The clock ticks seconds: what it calls 10 happened before 11, although nothing comes until 500."""
    assert dequantised(at([9, 10, 10, 500, 501])).arrival_s.tolist() == [9, 10, 10.5, 500, 501]


def test_the_last_time_is_spread_over_a_tick() -> None:
    assert dequantised(at([0, 2, 4, 4])).arrival_s.tolist() == [0, 2, 4, 5]


def test_one_time_alone_says_nothing_about_its_clock() -> None:
    assert dequantised(at([5, 5, 5])).arrival_s.tolist() == [5, 5, 5]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30).map(sorted))
def test_order_and_place_are_kept(times: list[int]) -> None:
    before = at([float(time) for time in times])
    after = dequantised(before)
    assert after.prompt_tokens.tolist() == before.prompt_tokens.tolist()
    distinct = sorted(set(times))
    if len(distinct) in (1, len(times)):
        assert after is before
        return
    moved = after.arrival_s - before.arrival_s
    assert np.all(moved >= 0) and np.all(np.diff(after.arrival_s) > 0)
    following = {time: next((later for later in distinct if later > time), np.inf) for time in distinct}
    assert all(new < following[time] for time, new in zip(times, after.arrival_s, strict=True))
    first = [times.index(time) for time in distinct]
    assert after.arrival_s[first].tolist() == distinct
    assert after.info.notes[-1].startswith("arrival times spread: ")
