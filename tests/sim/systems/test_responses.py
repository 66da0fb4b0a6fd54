"""What happens to the results when one thing about the cluster or the traffic changes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from builders import KV_BYTES_PER_TOKEN, Row, by_request, check, coefficients, plan, served, workload

from kvsim.config import load_config
from kvsim.plan.plan import Plan
from kvsim.record.result import Table
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import Coefficients
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.synthetic.fixed import fixed

TIMES = coefficients(w0_s=0.010, p1_s_per_token=6e-5, a_s_per_kv_token=3e-8, a_mixed_s_per_kv_token=4e-8, const_s=0.001)


def ttft_s(table: Table) -> float:
    return float((table["first_token_s"] - table["arrival_s"]).mean())


def test_a_quarter_of_the_bandwidth_takes_four_times_as_long_to_transfer() -> None:
    one = workload([Row(0.0, 1000, 5)])
    sets = ("pd_separation.transfer.pipelining=false",)
    whole, quarter = (
        by_request(served(PdSystem, plan(sets=sets, times=TIMES, nic_bytes_per_s=bandwidth), one))
        for bandwidth in (1e6, 0.25e6)
    )
    assert whole["transfer_s"][0] == pytest.approx(1000 * KV_BYTES_PER_TOKEN / 1e6, rel=1e-9)
    assert quarter["transfer_s"][0] == pytest.approx(4 * whole["transfer_s"][0], rel=1e-9)
    assert ttft_s(quarter) - ttft_s(whole) == pytest.approx(3 * whole["transfer_s"][0], rel=1e-9)


def test_a_quarter_of_the_bandwidth_raises_ttft_under_load() -> None:
    requests = fixed(800, 20.0, 1000, 50, "poisson", 1)
    whole, quarter = (
        served(PdSystem, plan(2, 2, times=TIMES, nic_bytes_per_s=bandwidth), requests).requests.table()
        for bandwidth in (100e6, 25e6)
    )
    assert quarter["transfer_s"].mean() > 4 * whole["transfer_s"].mean()
    assert ttft_s(quarter) > ttft_s(whole) + 0.02


@pytest.mark.parametrize("system", [UnifiedSystem, PdSystem])
def test_without_a_prefix_cache_shared_prompts_are_computed_again(system: type[UnifiedSystem] | type[PdSystem]) -> None:
    requests = chat(load_config().config.pd_trace, 800, 12.0, 3, max_output_tokens=100)
    cached, uncached = (
        served(
            system, plan(2, 2, times=TIMES, nic_bytes_per_s=1e9, enable_prefix_caching=caching), requests
        ).requests.table()
        for caching in (True, False)
    )
    assert uncached["hit_tokens"].sum() == 0
    assert uncached["computed_tokens"].sum() == uncached["prompt_tokens"].sum()
    assert cached["computed_tokens"].sum() < 0.7 * uncached["computed_tokens"].sum()
    assert ttft_s(cached) < 0.9 * ttft_s(uncached)


def saturated(num_prefill: int, num_decode: int, prompt_tokens: int, output_tokens: int, num: int) -> float:
    """Requests completed per second while far more arrive than can be served."""
    found = limited_plan(num_prefill, num_decode)
    requests = fixed(num, 10_000.0, prompt_tokens, output_tokens, "constant", 1)
    system = PdSystem(found, requests, 1)
    system.run()
    check(system)
    finish_s = np.sort(system.requests.table()["finish_s"])
    first, last = num // 4, 3 * num // 4
    return float((last - first) / (finish_s[last] - finish_s[first]))


SEATS = 32


@cache
def limited_plan(num_prefill: int, num_decode: int) -> Plan:
    return plan(
        num_prefill,
        num_decode,
        sets=("routing.prefill=least_loaded", "routing.decode=least_loaded"),
        times=TIMES,
        nic_bytes_per_s=1e12,
        max_num_seqs=SEATS,
        max_num_batched_tokens=8000,
        num_blocks=20_000,
        enable_prefix_caching=False,
    )


def prefill_rate_per_s(times: Coefficients, prompt_tokens: int) -> float:
    """Of one instance whose steps are full of prompts of one length."""
    prompts = 8000 // prompt_tokens
    return prompts / (times.p1_s_per_token * prompts * prompt_tokens + times.const_s)


def decode_rate_per_s(times: Coefficients, prompt_tokens: int, output_tokens: int) -> float:
    """Of one instance with all seats taken, by sequences that are half done on average."""
    kv_tokens = SEATS * (prompt_tokens + (output_tokens - 1) / 2)
    step_s = times.w0_s + times.a_s_per_kv_token * kv_tokens + times.const_s
    return SEATS / (output_tokens * step_s)


def test_the_better_ratio_depends_on_what_the_traffic_is_heavy_in() -> None:
    output_heavy = [saturated(p, d, 500, 800, 3000) for p, d in ((8, 8), (2, 14))]
    prompt_heavy = [saturated(p, d, 4000, 40, 1500) for p, d in ((8, 8), (2, 14))]
    assert output_heavy[1] > 1.3 * output_heavy[0]
    assert prompt_heavy[0] > 1.3 * prompt_heavy[1]


@pytest.mark.parametrize("instances", [64])
def test_the_sides_saturate_together_at_the_analytic_ratio(instances: int) -> None:
    """Throughput rises with the prefill side until the decode side is the bottleneck: where, to 10%."""
    prompt_tokens, output_tokens = 2000, 100
    prefill, decode = prefill_rate_per_s(TIMES, prompt_tokens), decode_rate_per_s(TIMES, prompt_tokens, output_tokens)
    crossing = instances * decode / (prefill + decode)
    tried = sorted({round(crossing * factor) for factor in (0.8, 0.9, 1.0, 1.1, 1.2)})
    rates = {p: saturated(p, instances - p, prompt_tokens, output_tokens, 8 * instances * SEATS // 4) for p in tried}
    best = max(rates, key=rates.__getitem__)
    assert best == pytest.approx(crossing, rel=0.1)
    for p, rate in rates.items():
        assert rate == pytest.approx(min(p * prefill, (instances - p) * decode), rel=0.05), (p, rates)


def test_a_router_with_an_old_view_of_the_caches_hits_less() -> None:
    """Sessions whose turns follow one another quickly: news that are older than the pause come too late."""
    rows = [Row(0.5 * turn + 0.01 * s, 0, 2, ((s, 64 * (turn + 1)),), -1) for turn in range(6) for s in range(12)]
    requests = workload(sorted(rows, key=lambda row: row.arrival_s))
    hits = []
    for staleness_ms in (0, 100, 10_000):
        found = plan(5, 3, sets=(f"routing.index_staleness_ms={staleness_ms}",), times=coefficients(const_s=0.001))
        hits.append(float(served(PdSystem, found, requests).requests.table()["hit_tokens"].sum()))
    assert hits[0] == hits[1] > 1.2 * hits[2]
