"""The window that all compared systems share, what is steady in it, and who does not keep up."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.record.percentiles import distribution
from kvsim.record.result import COLUMNS, CacheUse, Held, RoleUse, SystemResult
from kvsim.record.summary import in_window, summarise
from kvsim.record.windows import Window, common_window, measured_alike, over, pace


def served(arrival_s: Any, ttft_s: Any, e2e_s: Any, name: str = "pd", warmup: int = 0, **fields: Any) -> SystemResult:
    """Requests that came at ``arrival_s`` and took that long; every arrival is a mark."""
    arrivals_s = np.asarray(arrival_s, dtype=float)
    table = {column: np.zeros(len(arrivals_s)) for column in COLUMNS} | {
        "request_id": np.arange(len(arrivals_s), dtype=float),
        "arrival_s": arrivals_s,
        "first_token_s": arrivals_s + ttft_s,
        "finish_s": arrivals_s + e2e_s,
        "prefill_s": np.broadcast_to(np.minimum(ttft_s, 0.1), arrivals_s.shape),
        "queue_s": np.broadcast_to(np.maximum(np.asarray(ttft_s) - 0.1, 0.0), arrivals_s.shape),
        "output_tokens": np.full(len(arrivals_s), 11.0),
    }
    known: dict[str, Any] = {
        "name": name,
        "arrived": len(arrivals_s),
        "completed": len(arrivals_s),
        "failed": 0,
        "in_flight": 0,
        "table": table,
        "measured": table["request_id"] >= warmup,
        "window_s": (0.0, 0.0),
        "itl": distribution(np.zeros(0)),
        "roles": (),
        "cache": CacheUse(0, 0, 0, 100, 0),
        "transfer": None,
        "checks": (),
        "end_s": float(table["finish_s"].max()),
        "sim_cpu_s": 1.0,
        "events": 1,
        "steady": False,
        "steady_why": "",
        "marks_s": arrivals_s,
        "first_measured_s": float(arrivals_s[warmup]),
    }
    return SystemResult(**(known | fields))


def throughput(result: SystemResult) -> float:
    return summarise(result, slo_ttft_s=1e9, slo_tpot_s=1e9, gpus=1).throughput.requests_per_s


EVERY_SECOND = np.arange(100.0)


def test_the_slowest_decides_for_all_from_where_completions_keep_up() -> None:
    """Answers of 1 s and of 20 s at one request a second: each alone would be measured from elsewhere on."""
    fast, slow = served(EVERY_SECOND, 0.2, 1.0, "unified"), served(EVERY_SECOND, 0.2, 20.0)
    assert (common_window([fast], 2.0).start_s, common_window([slow], 2.0).start_s) == (1.0, 20.0)
    found = measured_alike([fast, slow], 2.0, {})
    assert [result.window_s for result in found] == [(20.0, 99.0)] * 2
    assert all(result.steady and not result.window_is_whole for result in found)
    assert [throughput(result) for result in found] == [1.0, 1.0]


def test_a_window_begins_behind_the_warm_up() -> None:
    assert common_window([served(EVERY_SECOND, 0.2, 5.0, warmup=40)], 2.0).start_s == 40.0


def test_without_a_steady_window_both_are_measured_over_the_whole_run_of_the_slower() -> None:
    """Answers of 35 s leave 64 s of the 70 that steadiness takes; the faster one completes no more for it."""
    fast, slow = served(EVERY_SECOND, 0.2, 1.0, "unified"), served(EVERY_SECOND, 0.2, 35.0)
    found = measured_alike([fast, slow], 2.0, {})
    assert [result.window_s for result in found] == [(0.0, 134.0)] * 2
    assert not any(result.steady for result in found)
    assert found[0].steady_why == found[1].steady_why
    assert "about 106 requests would have one, where 100 came" in found[0].steady_why
    assert throughput(found[0]) == throughput(found[1]) == 100 / 134
    assert measured_alike([slow], 1.0, {})[0].steady


def test_an_interrupted_run_ends_the_window_of_all() -> None:
    whole = served(EVERY_SECOND, 0.2, 40.0, "unified")
    cut = served(EVERY_SECOND[:30], 0.2, 1.0, incomplete=True, end_s=30.0)
    found = measured_alike([whole, cut], 2.0, {})
    assert [result.window_s for result in found] == [(0.0, 30.0)] * 2
    assert not found[1].steady


@pytest.mark.parametrize(("arrival_s", "why"), [([3.0], "too few"), ([3.0] * 9, "all requests arrive at once")])
def test_requests_that_have_no_rate(arrival_s: list[float], why: str) -> None:
    found = measured_alike([served(arrival_s, 0.2, 4.0)], 2.0, {})[0]
    assert found.window_s == (3.0, 7.0)
    assert (found.steady, why in found.steady_why) == (False, True)


@pytest.mark.parametrize("asked_over_possible", [1.05, 1.5, 2.0])
def test_ttft_grows_by_what_is_asked_too_much(asked_over_possible: float) -> None:
    """One server, a second a request: whoever comes at t waits (r - 1) t."""
    arrival_s = np.arange(200) / asked_over_possible
    result = served(arrival_s, 1 + np.arange(200) - arrival_s, 1 + np.arange(200) - arrival_s)
    found = measured_alike([result], 2.0, {"pd": (asked_over_possible, 1.0)})[0]
    assert found.pace is not None
    assert found.pace.overloaded
    assert found.pace.ttft_growth == pytest.approx(asked_over_possible - 1)
    assert not found.steady
    assert f"{asked_over_possible:.3g} requests/s come, 1 possible" in found.steady_why
    assert f"by {60 * (asked_over_possible - 1):.3g} s a minute" in found.steady_why
    assert pace(result, math.nan, math.nan).overloaded
    told = summarise(found, slo_ttft_s=1.0, slo_tpot_s=1.0, gpus=1).steady
    assert told.ttft_growth_s_per_min == pytest.approx(60 * (asked_over_possible - 1))
    assert (told.overloaded, told.asked_requests_per_s) == (True, asked_over_possible)


def test_throughput_in_overload_is_what_is_completed_while_requests_wait() -> None:
    """Both are saturated until the faster one has begun its last request.

    Over the whole run of the slower they would have completed equally much.
    """
    arrival_s = np.arange(300) / 2
    fast = served(arrival_s, 1 + np.arange(300) / 1.25 - arrival_s, 1 + np.arange(300) / 1.25 - arrival_s, "unified")
    slow = served(arrival_s, 1 + np.arange(300) - arrival_s, 1 + np.arange(300) - arrival_s)
    found = measured_alike([fast, slow], 2.0, {"unified": (2.0, 1.25), "pd": (2.0, 1.0)})
    assert found[0].window_s == found[1].window_s
    assert found[0].window_s[1] == 1 + 299 / 1.25
    assert [throughput(result) for result in found] == pytest.approx([1.25, 1.0], rel=0.01)


def test_noise_burst_and_closed_loops_are_no_overload() -> None:
    noise = np.random.default_rng(1).exponential(0.5, 100)
    assert not pace(served(EVERY_SECOND, noise, 5.0), 0.8, 1.0).overloaded
    grows = served(EVERY_SECOND, EVERY_SECOND / 2, 60.0)
    assert pace(grows, 1.0, math.nan).overloaded
    late = served(EVERY_SECOND, 60 + EVERY_SECOND / 40, 90.0)
    assert pace(late, 1.01, 1.0).overloaded and not pace(late, 0.99, 1.0).overloaded
    assert not pace(grows, 0.5, 1.0).overloaded
    assert not pace(dataclasses.replace(grows, is_closed=True), 9.0, 1.0).overloaded
    assert not pace(served(np.arange(20.0), np.arange(20.0), 20.0), 9.0, 1.0).overloaded
    unexplained = measured_alike([served(EVERY_SECOND, EVERY_SECOND / 2, EVERY_SECOND / 2)], 0.1, {"pd": (0.5, 1.0)})[0]
    assert not unexplained.steady
    assert unexplained.steady_why == "TTFT grows while requests arrive, by 30 s a minute"


def busy(share: float) -> RoleUse:
    """One side over 100 s."""
    timeline_s = np.arange(10) * 10.0
    return RoleUse("colocated", 1, 1, share, 0.1, math.nan, timeline_s, np.full(10, share))


def test_nothing_is_overloaded_while_instances_stand_idle_or_ttft_falls() -> None:
    """The hits of a short run's cold caches make its possible rate too low."""
    arrivals_s = np.linspace(0.0, 100.0, 200)
    grows, falls = 1.0 + 0.05 * arrivals_s, 9.0 - 0.05 * arrivals_s
    assert pace(served(arrivals_s, grows, 10.0, roles=(busy(1.0),)), 12.0, 10.0).overloaded
    assert not pace(served(arrivals_s, grows, 10.0, roles=(busy(0.2),)), 12.0, 10.0).overloaded
    assert not pace(served(arrivals_s, falls, 10.0, roles=(busy(1.0),)), 11.0, 10.0).overloaded
    assert pace(served(arrivals_s, falls, 10.0, roles=(busy(1.0),)), 16.0, 10.0).overloaded


def test_more_requests_are_not_advised_where_more_are_asked_than_can_be() -> None:
    (found,) = measured_alike([served(np.arange(20) * 0.01, 1.0, 5.0)], 2.0, {"pd": (100.0, 4.0)})
    assert found.steady_why == "100 requests/s come, 4 possible: more of the same would not be steady either"


def test_a_window_that_less_completes_in_than_comes_is_not_steady() -> None:
    """A second burst as the window ends: it comes, and nothing of it completes."""
    found = measured_alike([served([*EVERY_SECOND, *[99.5] * 60], 0.2, 1.0)], 2.0, {})[0]
    assert not found.steady
    assert found.steady_why == "158 requests came in the window and 98 completed"


def test_what_fits_no_instance_counts_against_the_slo() -> None:
    result = served(EVERY_SECOND, 0.2, 1.0, failed_arrival_s=np.arange(100.0), failed=100, arrived=200)
    told = summarise(measured_alike([result], 2.0, {})[0], slo_ttft_s=1.0, slo_tpot_s=1.0, gpus=1)
    completed, failed = told.requests.completed_in_window, told.requests.failed_in_window
    assert (completed, failed) == (98, 99)
    for share in (told.goodput.share, told.goodput.ttft_share, told.goodput.tpot_share):
        assert share == completed / (completed + failed)


def test_use_is_of_the_window() -> None:
    """Ten blocks held in the first ten seconds, busy until five; none later."""
    held = Held(np.array([10.0, 100.0]), np.array([100.0, 100.0]), 20)
    edges_s, busy = np.arange(20) * 5.0, np.array([1.0] + [0.0] * 19)
    role = RoleUse("decode", 1, 1, math.nan, math.nan, math.nan, edges_s, busy, held)
    result = served(EVERY_SECOND, 0.2, 1.0, roles=(role,), end_s=100.0)
    cases = (((0.0, 10.0), 0.5, 0.5), ((10.0, 100.0), 0.0, 0.0), ((5.0, 15.0), 0.0, 0.25))
    for window_s, busy_share, held_share in cases:
        found = over(result, Window(*window_s, 1.0, is_filled=True)).roles[0]
        assert (found.busy, found.kv_usage) == pytest.approx((busy_share, held_share))


def test_beside_an_overloaded_system_a_steady_one_needs_a_window_as_long() -> None:
    """Overloaded ones are measured over whatever is left; what they are compared with is no steadier for it."""
    arrivals_s = np.linspace(0.0, 2.0, 40)
    growing_s = np.linspace(0.1, 1.9, 40)
    slow, calm = served(arrivals_s, growing_s, growing_s + 0.1, "slow"), served(arrivals_s, 0.1, 0.8, "calm")
    rates = {"slow": (20.0, 10.0), "calm": (20.0, 40.0)}
    overloaded, beside = measured_alike([slow, calm], 2.0, rates)
    assert overloaded.pace.overloaded and not overloaded.steady
    assert not beside.pace.overloaded and not beside.steady
    assert beside.steady_why.startswith("the window of ") and beside.steady_why.endswith("2 are wanted")


@given(st.data())
def test_one_window_and_its_completions(data: st.DataObject) -> None:
    """Whatever the systems take: they share one window, and throughput x window is what completes in it."""
    count = data.draw(st.integers(1, 60))
    gaps_s = data.draw(st.lists(st.floats(0, 10), min_size=count, max_size=count))
    factor = data.draw(st.floats(0, 3))
    results = []
    for name in ("unified", "pd", "third"):
        e2e_s = np.array(data.draw(st.lists(st.floats(0.01, 50), min_size=count, max_size=count)))
        results.append(served(np.cumsum(gaps_s), e2e_s / 2, e2e_s, name, warmup=data.draw(st.integers(0, count - 1))))
    found = measured_alike(results, factor, {})
    assert len({result.window_s for result in found}) == 1
    start_s, end_s = found[0].window_s
    for result in found:
        completed = int(in_window(result, result.window_s).sum())
        assert throughput(result) * (end_s - start_s) == pytest.approx(completed)
        assert completed == result.completed or not result.window_is_whole
        late_s = np.percentile((result.table["finish_s"] - result.table["arrival_s"])[result.measured], 95)
        assert not result.steady or end_s - start_s >= factor * late_s


@pytest.mark.parametrize(("more", "steady"), [(580, True), (800, False)])
def test_what_tells_nothing_of_throughput_is_steady_however_surely_it_is_there(more: int, steady: bool) -> None:
    """Of 32,000 that come in the window 3 deviations are 540, and 2% are 640."""
    arrival_s = np.concatenate((np.arange(32_000) * 0.01, np.full(more, 319.5)))
    (found,) = measured_alike([served(arrival_s, 0.2, 5.0)], 2.0, {})
    assert found.steady == steady
