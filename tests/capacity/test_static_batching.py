"""Maximum rates of static batching: by hand, and as a saturated engine serves."""

from __future__ import annotations

import numpy as np
import pytest
from builders import Row, coefficients, colocated, plan, served, workload

from kvsim.capacity.demand import demand_of
from kvsim.capacity.maximum_rates import colocated_requests_per_s
from kvsim.plan.plan import Plan
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import Coefficients
from kvsim.workload.workload import Workload

FULL = coefficients(
    w0_s=0.01,
    p1_s_per_token=1e-4,
    a_s_per_kv_token=1e-6,
    a_mixed_s_per_kv_token=2e-6,
    b_s_per_token2=1e-7,
    s_s_per_seq=1e-4,
    const_s=0.002,
)
STRAGGLING = coefficients(const_s=0.01, straggler_s_per_token=1e-4, straggler_min_seqs=2, decode_s_per_seq=1e-3)


def static(times: Coefficients, **settings: object) -> Plan:
    return colocated(plan(1, 1, times=times, batching="static", **settings))


def test_a_batch_is_what_a_step_takes() -> None:
    """Three prompts and a part of a fourth in the first step, the rest in the second, the longest answer's other nine
    behind: 4 requests in 1 + 1 + 10 steps, the last prompt being a step late."""
    found = static(coefficients(const_s=1.0), max_num_batched_tokens=350)
    demand = demand_of(workload([Row(0, 100, 11) for _ in range(8)]), found)
    assert colocated_requests_per_s(found, demand) == pytest.approx(4 / 12)


def test_seats_and_the_pool_end_a_batch() -> None:
    requests = workload([Row(0, 96, 11) for _ in range(8)])
    seats = static(coefficients(const_s=1.0), max_num_batched_tokens=1000, max_num_seqs=2)
    assert colocated_requests_per_s(seats, demand_of(requests, seats)) == pytest.approx(2 / 11)
    pool = static(coefficients(const_s=1.0), max_num_batched_tokens=1000, num_blocks=20)
    assert colocated_requests_per_s(pool, demand_of(requests, pool)) == pytest.approx(3 / 11)


def test_a_prompt_of_many_steps_is_alone() -> None:
    """Ten steps, of which the last has 50 tokens left for half of another prompt's first chunk."""
    found = static(coefficients(p1_s_per_token=1e-3), max_num_batched_tokens=100, num_blocks=10_000)
    demand = demand_of(workload([Row(0, 1000, 2) for _ in range(4)]), found)
    # No decode takes time: prompts are computed one after the other whatever the batches are.
    rate = colocated_requests_per_s(found, demand)
    assert rate == pytest.approx(1 / (1.0 + 1e-3), rel=1e-3)


def mixed(count: int) -> Workload:
    random = np.random.default_rng(3)
    sizes = zip(random.integers(20, 900, count).tolist(), random.integers(1, 120, count).tolist(), strict=True)
    return workload([Row(0, prompt, output) for prompt, output in sizes])


@pytest.mark.parametrize("times", [FULL, STRAGGLING], ids=["full", "straggling"])
@pytest.mark.parametrize(
    "settings",
    [
        {"max_num_batched_tokens": 2048},
        {"max_num_batched_tokens": 300},
        {"max_num_batched_tokens": 8192, "max_num_seqs": 5},
        {"max_num_batched_tokens": 8192, "num_blocks": 400},
    ],
    ids=["budget", "chunks", "seats", "pool"],
)
def test_saturated(times: Coefficients, settings: dict[str, int]) -> None:
    found, requests = static(times, **settings), mixed(1200)
    finish_s = np.sort(served(UnifiedSystem, found, requests).requests.table()["finish_s"])
    simulated = len(finish_s) / finish_s[-1]
    assert colocated_requests_per_s(found, demand_of(requests, found)) == pytest.approx(simulated, rel=0.03)
