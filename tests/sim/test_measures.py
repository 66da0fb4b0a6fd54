"""What is measured of runs: blocks held, inter-token latencies, TPOT, and one window for both systems."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from both_ways import random_case
from builders import Row, by_request, colocated, plan, stepwise, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.record.summary import summarise, tpot_s, ttft_s
from kvsim.record.windows import measured_alike
from kvsim.sim.outcome import outcome
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.study.measures import latencies, tpot_ms


@pytest.mark.parametrize("route", [lambda found: found, stepwise], ids=["leaps", "steps"])
def test_blocks_are_held_from_their_own_step_on(route) -> None:
    """Blocks of two tokens, steps of a second: 3 prompt tokens hold 2, the answer's tokens 4, 5 and 6 then 2, 3, 3.

    A second request arrives a minute later and holds 2 blocks for its step; nothing is held between.
    """
    found = route(colocated(plan(block_size=2, num_blocks=10)))
    system = UnifiedSystem(found, workload([Row(0.0, 3, 4), Row(60.0, 3, 1)]), 1)
    system.run()
    assert [mark.time_s for mark in system.marks] == [0.0, 60.0, 61.0]
    assert [mark.held_block_s["colocated"] for mark in system.marks] == [0.0, 2 + 2 + 3 + 3, 10 + 2]
    result = outcome(system, warmup_requests=0, unsteady_factor=2.0)
    assert result.window_s == (0.0, 61.0)
    assert result.roles[0].kv_usage == pytest.approx(12 / 610)


def test_kv_is_held_while_it_waits_for_its_transfer() -> None:
    """No step of the prefill instance runs while its blocks are sent: 1,000 tokens of 1,000 bytes at 1e5 bytes/s."""
    found = plan(block_size=10, num_blocks=200, nic_bytes_per_s=1e5, sets=("pd_separation.transfer.pipelining=false",))
    system = PdSystem(found, workload([Row(0.0, 1000, 1)]), 1)
    system.run()
    sent_s = by_request(system)["transfer_s"][0]
    assert sent_s == pytest.approx(10.0, rel=0.1)
    assert system.marks[-1].held_block_s["prefill"] == pytest.approx(100 * (1 + sent_s), rel=0.01)


def test_inter_token_latencies_are_those_of_the_measured_requests() -> None:
    """Steps take longer while the first request, warm-up, is there: the latencies that count hold none of its own."""
    rows = [Row(0.0, 4, 50), Row(5.0, 4, 10), Row(100.0, 4, 10)]
    system = UnifiedSystem(colocated(plan(block_size=4, num_blocks=100)), workload(rows), 1)
    system.run(warmup_requests=1)
    result = outcome(system, warmup_requests=1, unsteady_factor=2.0)
    assert result.itl.count == 18
    assert outcome(system, warmup_requests=0, unsteady_factor=2.0).itl.count == 0


def test_one_token_has_no_tpot_in_studies_either() -> None:
    rows = [Row(float(i), 4, 1 if i % 2 else 5) for i in range(10)]
    for requests, mean_ms in ((rows, 1000.0), ([replace(row, output_tokens=1) for row in rows], np.nan)):
        system = UnifiedSystem(colocated(plan(block_size=4, num_blocks=100)), workload(requests), 1)
        system.run()
        result = outcome(system, warmup_requests=0, unsteady_factor=0.0)
        values_s = tpot_s(result.table)
        assert tpot_ms(result) == pytest.approx(1000 * values_s[~np.isnan(values_s)])
        assert latencies(result)["tpot_mean_ms"] == pytest.approx(mean_ms, nan_ok=True)
        assert latencies(result)["tpot_p99_ms"] == pytest.approx(mean_ms, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.floats(0, 3))
def test_systems_share_a_window_and_throughput_times_window_is_what_completes(rng: Random, factor: float) -> None:
    found, requests = random_case(rng)
    warmup, results = rng.randint(0, len(requests) - 1), []
    for kind, where in ((UnifiedSystem, colocated(found)), (PdSystem, found)):
        system = kind(where, requests, 1)
        system.run(warmup)
        results.append(outcome(system, warmup_requests=warmup, unsteady_factor=factor))
    alike = measured_alike(results, factor, {})
    assert alike[0].window_s == alike[1].window_s
    start_s, end_s = alike[0].window_s
    for result in alike:
        told = summarise(result, slo_ttft_s=5.0, slo_tpot_s=1.0, gpus=2)
        inside = (result.table["finish_s"] > start_s) & (result.table["finish_s"] <= end_s)
        assert told.throughput.requests_per_s * (end_s - start_s) == pytest.approx(inside.sum())
        assert told.requests.completed_in_window == inside.sum()
        parts_ms = sum(value for value in told.attribution_ms.mean.values())
        assert parts_ms == pytest.approx(1e3 * ttft_s(result.table)[result.measured].mean(), abs=1e-6)
        assert all(0 <= role.kv_usage <= 1 for role in result.roles)
