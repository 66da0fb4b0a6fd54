"""The whole of several models: percentiles by rates, and GPUs at one moment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.record.fleet import RoleFleet
from kvsim.report import cluster_totals
from kvsim.report.cluster_totals import OneModel, good_share, hit_rate, peak_gpus, together


def one(ttfts_s: list[float], length_s: float, good: float = 1.0, failed: int = 0) -> OneModel:
    """A model whose requests have these TTFT, all measured in a window of that length."""
    count = len(ttfts_s)
    table = {"arrival_s": np.zeros(count), "first_token_s": np.array(ttfts_s)}
    table |= {"finish_s": np.array(ttfts_s), "output_tokens": np.ones(count)}
    told: Any = SimpleNamespace(
        window_s=SimpleNamespace(start=1.0, end=1.0 + length_s),
        requests=SimpleNamespace(completed_in_window=count, failed_in_window=failed),
        goodput=SimpleNamespace(share=good),
        scaling=object(),
    )
    return OneModel(told, SimpleNamespace(table=table, measured=np.ones(count, dtype=np.bool_)), SimpleNamespace())  # type: ignore[arg-type]


def ttft_s(table: Any) -> Any:
    return table["first_token_s"] - table["arrival_s"]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_windows_of_one_length_are_pooled(first: list[float], second: list[float]) -> None:
    found = together([one(first, 3.0), one(second, 3.0)], ttft_s)
    pooled = np.array(first + second) * 1e3
    assert found.p50 == pytest.approx(np.percentile(pooled, 50))
    assert found.p99 == pytest.approx(np.percentile(pooled, 99))
    assert (found.mean, found.max) == (pytest.approx(pooled.mean()), pytest.approx(pooled.max()))


def test_a_window_three_times_as_long_counts_a_third() -> None:
    """10 requests in 1 s at 1 s of TTFT, 30 in 3 s at 2 s: as many a second of each."""
    found = together([one([1.0] * 10, 1.0), one([2.0] * 30, 3.0)], ttft_s)
    assert found.mean == pytest.approx(1500)
    # Ranks: 360 of the tenth, 10 / 3 + 390 of the eleventh, 780 of the last; the middle is 390, between those.
    assert (found.p50, found.p90) == (pytest.approx(1900), pytest.approx(2000))
    longer = together([one([1.0] * 10, 1.0), one([2.0] * 10, 3.0)], ttft_s)
    assert longer.mean == pytest.approx((3 * 1000 + 2000) / 4)
    assert (longer.p50, longer.p90) == (pytest.approx(1000), pytest.approx(2000))


def test_a_model_counts_by_what_it_completes_in_a_second_however_many_of_it_are_measured() -> None:
    """Half of what is measured came before the window: 10 a second all the same, as of the other."""
    early = one([1.0] * 20, 1.0)
    early.told.requests.completed_in_window = 10
    assert together([early, one([2.0] * 10, 1.0)], ttft_s).mean == pytest.approx(1500)
    early.told.requests.completed_in_window = 0
    assert together([early, one([2.0] * 10, 1.0)], ttft_s).mean == pytest.approx(2000)


def caching(asked: int, hit: float, completed: int, in_window: int, length_s: float) -> OneModel:
    model: Any = one([1.0] * in_window, length_s)
    model.told.requests.completed = completed
    model.told.cache = SimpleNamespace(query_tokens=asked, prefix_hit_rate=hit)
    return model


def test_hits_are_of_the_prompt_tokens_of_a_second() -> None:
    """9 a second of 100 tokens, all hit; 1 a second of 100, none hit: as many requests were run of each."""
    busy, idle = caching(9000, 1.0, 90, 45, 5.0), caching(9000, 0.0, 90, 90, 90.0)
    assert hit_rate([busy, idle]) == pytest.approx(0.9)
    assert hit_rate([caching(0, 0.0, 0, 0, 0.0), idle]) == pytest.approx(0.0)
    assert hit_rate([caching(0, 0.0, 0, 0, 0.0)]) is None


def test_shares_within_the_slo_are_of_what_is_judged_in_a_second() -> None:
    # 4 a second, half of them good; 2 a second, of which one failed and so none is good.
    assert good_share([one([0.1] * 4, 1.0, good=0.5), one([0.1] * 3, 2.0, good=0.0, failed=1)]) == pytest.approx(2 / 6)
    assert good_share([one([], 1.0)]) is None


def scaling(*roles: tuple[list[float], list[int]], end_s: float = 100.0) -> OneModel:
    sides = tuple(
        RoleFleet(f"role{n}", 9, tuple(times_s), tuple(gpus), tuple(gpus), tuple(gpus))
        for n, (times_s, gpus) in enumerate(roles)
    )
    fleet: Any = SimpleNamespace(roles=sides)
    return OneModel(one([1.0], 1.0).told, SimpleNamespace(fleet=fleet, end_s=end_s), SimpleNamespace())  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_totals, "gpu_of", lambda plan, role: "h100-sxm")


def test_peaks_that_do_not_meet_save_what_they_share() -> None:
    """One has 8 GPUs to 50 s and 2 after, the other 1 and then 6 from 60 s on."""
    (peak,) = peak_gpus([scaling(([0.0, 50.0], [8, 2])), scaling(([0.0, 60.0], [1, 6]))]) or ()
    assert (peak.together, peak.at_s, peak.apart) == (9, 0.0, 14)


def test_sides_of_one_model_are_added_before_its_most_is_taken() -> None:
    (peak,) = peak_gpus([scaling(([0.0, 10.0], [4, 1]), ([0.0, 20.0], [1, 4]))]) or ()
    assert (peak.together, peak.apart) == (5, 5)


def test_moments_after_the_first_end_do_not_count() -> None:
    (peak,) = peak_gpus([scaling(([0.0, 70.0], [1, 9])), scaling(([0.0], [2]), end_s=60.0)]) or ()
    assert (peak.together, peak.apart, peak.until_s) == (3, 3, 60.0)
    assert peak.has_more_later
    (peak,) = peak_gpus([scaling(([0.0, 70.0], [9, 1])), scaling(([0.0], [2]), end_s=60.0)]) or ()
    assert (peak.apart, peak.has_more_later) == (11, False)


CHANGES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), min_size=1, max_size=8)


@given(st.lists(CHANGES, min_size=1, max_size=4))
def test_against_second_by_second(changes: list[list[tuple[int, int]]]) -> None:
    timelines = []
    for own in changes:
        known = dict(own) | {0: own[0][1]}
        timelines.append((sorted(known), [known[at] for at in sorted(known)]))
    (peak,) = peak_gpus([scaling((list(map(float, times)), gpus)) for times, gpus in timelines]) or ()
    there = np.array([[gpus[sum(at <= s for at in times) - 1] for s in range(21)] for times, gpus in timelines])
    assert peak.together == there.sum(axis=0).max()
    assert peak.at_s == there.sum(axis=0).argmax()
    assert peak.apart == there.max(axis=1).sum()
