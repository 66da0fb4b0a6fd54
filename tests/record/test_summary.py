import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.record.figures import SideUse, SloLimits, WindowBounds
from kvsim.record.percentiles import distribution
from kvsim.record.plain import plain
from kvsim.record.result import COLUMNS, COMPONENTS, CacheUse, Check, RoleUse, SystemResult, TransferUse
from kvsim.record.summary import mean_tpot_s, p99_rows, summarise, tpot_s

NAN = math.nan


def result(columns, **fields):
    """A PD result of as many requests as the columns have rows, with nothing else happening."""
    count = len(next(iter(columns.values())))
    table = {name: np.zeros(count) for name in COLUMNS} | {k: np.array(v, dtype=float) for k, v in columns.items()}
    known = {
        "name": "pd",
        "arrived": count,
        "completed": count,
        "failed": 0,
        "in_flight": 0,
        "table": table,
        "measured": np.ones(count, dtype=bool),
        "window_s": (0.0, 10.0),
        "itl": distribution(np.array([])),
        "roles": (),
        "cache": CacheUse(0, 0, 0, 100, 0),
        "transfer": None,
        "checks": (),
        "end_s": 10.0,
        "sim_cpu_s": 1.0,
        "events": 1,
        "steady": True,
        "steady_why": "",
    }
    return SystemResult(**(known | fields))


def summary(columns, gpus=4, slo_ttft_s=1.0, slo_tpot_s=0.1, **fields):
    return summarise(result(columns, **fields), slo_ttft_s=slo_ttft_s, slo_tpot_s=slo_tpot_s, gpus=gpus)


FOUR = {
    "arrival_s": [0.0, 1.0, 2.0, 3.0],
    "first_token_s": [0.5, 1.5, 4.0, 3.5],
    "finish_s": [1.0, 2.5, 5.0, 3.5],
    "output_tokens": [11, 6, 11, 1],
}
"""TTFT 0.5, 0.5, 2.0, 0.5 s; TPOT 0.05, 0.2, 0.1 s and none; E2E 1.0, 1.5, 3.0, 0.5 s."""


def test_latencies_in_milliseconds():
    found = summary(FOUR)
    assert vars(found.ttft_ms) == pytest.approx(
        {"mean": 875, "p50": 500, "p90": 1550, "p95": 1775, "p99": 1955, "max": 2000}
    )
    assert found.tpot_ms.mean == pytest.approx(350 / 3)
    assert found.tpot_ms.p50 == pytest.approx(100)
    assert found.e2e_ms.max == pytest.approx(3000)


def test_tpot_needs_two_tokens():
    assert tpot_s({k: np.array(v) for k, v in FOUR.items()}) == pytest.approx([0.05, 0.2, 0.1, NAN], nan_ok=True)
    alone = summary({"finish_s": [1.0], "first_token_s": [1.0], "output_tokens": [1]})
    assert alone.tpot_ms.mean is None
    assert alone.goodput.share == 1.0


def test_goodput_needs_both_limits_and_counts_the_limit_itself():
    """Row 0 is good, row 1 misses TPOT, row 2 misses TTFT, row 3 has one token and meets TTFT."""
    found = summary(FOUR).goodput
    assert found.requests_per_s == pytest.approx(0.2)
    assert found.share == 0.5
    assert (found.ttft_share, found.tpot_share) == (0.75, 0.75)
    assert found.slo == SloLimits(ttft_ms=1000.0, tpot_ms=100.0)
    assert summary(FOUR, slo_ttft_s=2.0, slo_tpot_s=0.2).goodput.share == 1.0


def test_throughput_counts_completions_after_the_start_and_up_to_the_end_of_the_window():
    found = summary(FOUR, window_s=(1.0, 3.5))
    assert found.throughput.requests_per_s == pytest.approx(2 / 2.5)
    assert found.throughput.output_tokens_per_s == pytest.approx(7 / 2.5)
    assert found.throughput.tokens_per_s_per_gpu == pytest.approx(7 / 2.5 / 4)
    assert found.window_s == WindowBounds(start=1.0, end=3.5, whole=True)


def test_warm_up_is_cut_from_latencies_but_not_from_requests():
    found = summary(FOUR, measured=np.array([False, True, False, True]))
    assert found.ttft_ms.max == pytest.approx(500)
    assert vars(found.requests) == {
        "arrived": 4,
        "completed": 4,
        "failed": 0,
        "in_flight": 0,
        "measured": 2,
        "completed_in_window": 4,
        "failed_in_window": 0,
    }


def test_an_empty_run_is_null_and_json():
    nothing = {name: [] for name in COLUMNS}
    found = summary(nothing, window_s=(0.0, 0.0))
    assert found.ttft_ms.p99 is None
    assert found.throughput.requests_per_s is None
    assert found.goodput.share is None
    assert found.cache.prefix_hit_rate is None
    assert found.attribution_ms.p99["queue"] is None
    json.dumps(plain(found), allow_nan=False)


def test_counters_cache_transfer_and_sides():
    role = RoleUse("prefill", 2, 8, 0.5, 0.25, NAN, np.zeros(1), np.zeros(1))
    found = summary(
        FOUR | {"recomputed_tokens": [1, 2, 0, 0]},
        cache=CacheUse(1000, 400, 7, 100, 3),
        transfer=TransferUse(4, 8e9, 8e9, NAN, 0.01, 0.2, 0.1, 5, 1e6),
        roles=(role,),
        notes=("one",),
    )
    assert found.cache.prefix_hit_rate == 0.4
    assert found.cache.by_tier == {"hbm": 0.4}
    assert found.cache.evictions == 7
    assert found.cache.recomputed_tokens == 3
    assert found.preemptions == 3
    assert found.transfer.bytes_sent == 8e9
    assert plain(found)["transfer"]["hidden_share"] is None
    assert found.utilisation == {"prefill": SideUse(instances=2, gpus=8, busy=0.5, kv_usage=0.25, load=None)}
    assert found.notes == ("one",)


def test_one_broken_law_breaks_conservation():
    laws = (Check("blocks", 4.0, 4.0, True), Check("bytes", 4.0, 3.0, False))
    found = summary(FOUR, checks=laws).conservation
    assert found.ok is False
    assert plain(found.checks[1]) == {"name": "bytes", "expected": 4.0, "found": 3.0, "ok": False}
    assert summary(FOUR, checks=laws[:1]).conservation.ok is True


def test_timings_of_the_machine_stay_out():
    assert not {"sim_cpu_s", "events"} & set(plain(summary(FOUR)))


def test_attribution_at_p99_averages_its_band_only():
    """1,001 TTFTs of 0, 1, ..., 1000 ms: p98.5 to p99.5 are the eleven from 985 to 995."""
    ttfts_s = np.arange(1001) / 1000
    queue_s = np.where((ttfts_s >= 0.985) & (ttfts_s <= 0.995), 0.9, 0.0)
    found = summary({"first_token_s": ttfts_s, "queue_s": queue_s, "prefill_s": ttfts_s - queue_s}).attribution_ms
    assert list(found.p99) == [name.removesuffix("_s") for name in COMPONENTS]
    assert found.p99["queue"] == pytest.approx(900)
    assert sum(found.p99.values()) == pytest.approx(990)
    assert found.mean["queue"] == pytest.approx(11 * 900 / 1001)


@pytest.mark.parametrize(
    "ttfts_s, rows",
    [([5.0], [True]), ([1.0, 2.0], [False, True]), ([2.0, 2.0, 2.0], [True] * 3), ([0.1] * 3, [True] * 3), ([], [])],
)
def test_small_samples_take_the_request_nearest_to_p99(ttfts_s, rows):
    assert p99_rows(np.array(ttfts_s)).tolist() == rows


@given(
    st.lists(st.lists(st.floats(0, 100), min_size=len(COMPONENTS), max_size=len(COMPONENTS)), min_size=1, max_size=40)
)
def test_mean_attribution_sums_to_mean_ttft(parts):
    columns = dict(zip(COMPONENTS, np.array(parts).T, strict=True))
    found = summary(columns | {"first_token_s": np.array(parts).sum(axis=1)})
    assert sum(found.attribution_ms.mean.values()) == pytest.approx(found.ttft_ms.mean, abs=1e-6)
    assert sum(found.attribution_ms.p99.values()) <= found.ttft_ms.max * (1 + 1e-12) + 1e-6


def test_mean_tpot_weighs_requests_or_their_tokens():
    """(0.05 + 0.2 + 0.1) / 3; and 0.5 + 1 + 1 s over 10 + 5 + 10 later tokens."""
    table = {name: np.array(values, dtype=float) for name, values in FOUR.items()}
    assert mean_tpot_s(table) == pytest.approx(0.35 / 3)
    assert mean_tpot_s(table, weighs_tokens=True) == pytest.approx(2.5 / 25)
    assert mean_tpot_s({name: values[3:] for name, values in table.items()}) is None
    assert mean_tpot_s({name: values[:0] for name, values in table.items()}) is None
