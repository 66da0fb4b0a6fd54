"""Closed loops: who waits for whom, how many are in flight, and the laws of interactive systems."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from both_ways import random_case, same_both_ways
from builders import Row, by_request, coefficients, colocated, plan, served, stepwise, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.capacity.demand import demand_of
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.plan.plan import Plan
from kvsim.record.result import Table
from kvsim.sim.outcome import outcome
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.graph import RequestGraph
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.synthetic.fixed import fixed
from kvsim.workload.workload import Workload

SYSTEMS = (UnifiedSystem, PdSystem)


def most_in_flight(table: Table) -> int:
    """The largest number of requests in the system at once; who leaves at an instant makes room for who comes."""
    times = np.concatenate((table["arrival_s"], table["finish_s"]))
    change = np.concatenate((np.ones(len(table["arrival_s"])), -np.ones(len(table["finish_s"]))))
    order = np.lexsort((change, times))
    return int(np.cumsum(change[order]).max(initial=0))


def at_once(num: int, concurrency: int, prompt_tokens: int = 64, output_tokens: int = 20) -> Workload:
    """Equal requests that all wait from the start for one of ``concurrency`` places."""
    return replace(
        Workload.private(
            np.zeros(num),
            np.full(num, prompt_tokens, dtype=np.int32),
            np.full(num, output_tokens, dtype=np.int32),
            WorkloadInfo("test", "synthetic"),
        ),
        max_concurrency=concurrency,
    )


def users(num_users: int, turns: int, think_s: float, output_tokens: int, seed: int) -> Workload:
    """Users who think for an exponential time after every answer, and then ask again."""
    random = np.random.default_rng(seed)
    count = num_users * turns
    after = np.arange(count, dtype=np.int64) - num_users
    after[:num_users] = -1
    arrival_s = np.repeat(np.arange(turns, dtype=np.float64), num_users)
    arrival_s[:num_users] = np.sort(random.exponential(think_s, num_users))
    arrival_s[num_users:] += arrival_s[num_users - 1]
    base = Workload.private(
        arrival_s,
        np.full(count, 16, dtype=np.int32),
        np.full(count, output_tokens, dtype=np.int32),
        WorkloadInfo("test", "synthetic"),
    )
    return replace(base, graph=RequestGraph.turns(after, random.exponential(think_s, count)))


def test_one_place_serves_one_after_the_other() -> None:
    found = by_request(served(UnifiedSystem, colocated(plan()), at_once(4, 1, output_tokens=3)))
    assert found["arrival_s"].tolist() == [0.0, 3.0, 6.0, 9.0]
    assert found["finish_s"].tolist() == [3.0, 6.0, 9.0, 12.0]
    assert found["queue_s"].tolist() == [0.0] * 4


def test_the_next_turn_follows_its_answer_and_a_pause() -> None:
    rows = [Row(0.0, 16, 3), Row(1.0, 16, 1), Row(2.0, 16, 2)]
    asked = replace(workload(rows), graph=RequestGraph.turns(np.array([-1, 0, 0]), np.array([9.0, 5.0, 0.0])))
    found = by_request(served(UnifiedSystem, colocated(plan()), asked))
    assert found["arrival_s"].tolist() == [0.0, 8.0, 3.0]
    assert found["finish_s"].tolist() == [3.0, 9.0, 5.0]


def test_who_waits_for_a_request_that_fails_is_not_forgotten() -> None:
    rows = [Row(0.0, 10**6, 3), Row(1.0, 16, 1)]
    graph = RequestGraph.turns(np.array([-1, 0]), np.array([0.0, 2.0]))
    asked = replace(workload(rows), graph=graph, max_concurrency=1)
    system = served(UnifiedSystem, colocated(plan()), asked)
    assert (system.counts.failed, system.counts.completed) == (1, 1)
    assert system.requests.table()["arrival_s"].tolist() == [2.0]


@pytest.mark.parametrize("system", SYSTEMS)
@given(concurrency=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_concurrency_is_never_exceeded(system, concurrency: int, seed: int) -> None:
    found, requests = random_case(Random(seed))
    run = served(system, found, replace(requests, max_concurrency=concurrency))
    table = run.requests.table()
    assert run.counts.completed + run.counts.failed == len(requests)
    assert most_in_flight(table) <= concurrency
    if len(requests) >= concurrency and not requests.arrival_s.any() and not run.counts.failed:
        assert most_in_flight(table) == concurrency


@pytest.mark.parametrize("system", SYSTEMS)
@given(seed=st.integers(0, 10**6))
def test_leaps_like_single_steps(system, seed: int) -> None:
    rng = Random(seed)
    found, requests = random_case(rng)
    after = [rng.choice([-1, rng.randrange(row)]) if row else -1 for row in range(len(requests))]
    think_s = [rng.choice([0.0, 0.0, rng.uniform(0, 20)]) for _ in range(len(requests))]
    closed = replace(
        requests,
        graph=RequestGraph.turns(np.array(after, dtype=np.int64), np.array(think_s)),
        max_concurrency=rng.choice([None, 1, 2, 5]),
    )
    same_both_ways(system, colocated(found) if system is UnifiedSystem else found, closed)


@pytest.mark.parametrize("system", SYSTEMS)
def test_interactive_response_time_law(system) -> None:
    """Users, throughput, sojourn and think time: N = X (R + Z)."""
    num_users, think_s = 24, 30.0
    found = plan(2, 2, times=coefficients(const_s=0.05), nic_bytes_per_s=1e9)
    table = served(system, found, users(num_users, 120, think_s, 40, 5)).requests.table()
    end_s = float(np.percentile(table["finish_s"], 90))
    early = table["finish_s"] < end_s
    throughput_per_s = early.sum() / end_s
    sojourn_s = float((table["finish_s"] - table["arrival_s"])[early].mean())
    assert num_users == pytest.approx(throughput_per_s * (sojourn_s + think_s), rel=0.04)


def saturated(found: Plan, requests: Workload, system) -> tuple[float, float]:
    """Throughput of a closed loop that always has more to do, and the analytic bound."""
    run = system(found, requests, 3)
    run.run()
    result = outcome(run, warmup_requests=len(requests) // 4, unsteady_factor=0.0)
    start_s, end_s = result.window_s
    finish_s = result.table["finish_s"]
    throughput_per_s = float(((finish_s > start_s) & (finish_s <= end_s)).sum()) / (end_s - start_s)
    return throughput_per_s, maximum_rate(found, demand_of(requests, found), run.name)


def costs():
    return coefficients(w0_s=0.012, p0_s=0.002, p1_s_per_token=6e-5, a_s_per_kv_token=2e-8, a_mixed_s_per_kv_token=3e-8)


@pytest.mark.parametrize(
    ("system", "seats", "concurrency"), [(UnifiedSystem, 32, 300), (PdSystem, 32, 400), (PdSystem, 4, 60)]
)
def test_a_saturated_closed_loop_reaches_the_analytic_bound(system, seats: int, concurrency: int) -> None:
    found = plan(2, 2, times=costs(), nic_bytes_per_s=1e9, max_num_seqs=seats, max_num_batched_tokens=2048)
    drawn = fixed(6000, 1.0, 400, 80, "poisson", 1)
    lengths = np.random.default_rng(2)
    outputs = lengths.integers(40, 120, len(drawn), endpoint=True).astype(np.int32)
    requests = replace(drawn, arrival_s=np.zeros(len(drawn)), output_tokens=outputs, max_concurrency=concurrency)
    throughput_per_s, bound_per_s = saturated(found, requests, system)
    assert throughput_per_s == pytest.approx(bound_per_s, rel=0.03)


def test_closed_loops_are_the_same_stepwise() -> None:
    found = colocated(plan(times=costs()))
    requests = at_once(200, 7)
    leaps, steps = (by_request(served(UnifiedSystem, p, requests)) for p in (found, stepwise(found)))
    for name, column in leaps.items():
        np.testing.assert_allclose(column, steps[name], rtol=1e-9, err_msg=name)
