"""Where one queue decides, more of what is queued for never lets requests wait longer in the mean.

Step times do not depend on the batch here, and nothing else is scarce: elsewhere more can hurt, as with two prefill
instances that share a decode instance's NIC where one had it to itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from builders import KV_BYTES_PER_TOKEN, Row, by_request, coefficients, colocated, plan, served, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.plan.plan import Plan
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem

MEAN_PROMPT, MEAN_ANSWER = 36, 20
ROOMY = {"block_size": 4, "num_blocks": 10**6, "max_num_batched_tokens": 4096, "max_num_seqs": 1024}
NUM = 80
NOISE_STEPS = 3 * math.sqrt(2 / 12 / NUM)
"""Who comes waits for a step boundary, uniformly distributed over a step in either run: three standard deviations."""
Pair = tuple[type[UnifiedSystem] | type[PdSystem], Plan, Plan]
"""A system with less and with more of something."""


def bandwidth(rng: Random, rate_per_s: float, more: float) -> Pair:
    contention, first = rng.choice(["max_min", "fifo"]), rng.choice(["decode", "prefill"])
    sets = (f"pd_separation.transfer.contention={contention}", f"pd_separation.first_token={first}")
    nic_bytes_per_s = rate_per_s * MEAN_PROMPT * KV_BYTES_PER_TOKEN * rng.uniform(0.7, 2)
    less, much = (
        plan(1, 1, sets=sets, times=coefficients(), nic_bytes_per_s=nic_bytes_per_s * factor, **ROOMY)
        for factor in (1, more)
    )
    return PdSystem, less, much


def blocks(rng: Random, more: float) -> tuple[Plan, Plan]:
    num_blocks, step_s = rng.randint(30, 120), rng.choice([0.002, 0.005, 0.01, 0.02])
    less, much = (
        plan(times=coefficients(const_s=step_s), nic_bytes_per_s=math.inf, **(ROOMY | {"num_blocks": count}))
        for count in (num_blocks, int(num_blocks * more))
    )
    return less, much


def unified_blocks(rng: Random, rate_per_s: float, more: float) -> Pair:
    less, much = blocks(rng, more)
    return UnifiedSystem, colocated(less), colocated(much)


def decode_blocks(rng: Random, rate_per_s: float, more: float) -> Pair:
    return PdSystem, *blocks(rng, more)


def busy(rng: Random, rate_per_s: float) -> dict[str, object]:
    """Engines of few seats, one of which could serve 1 / 0.7 of all requests."""
    seats = rng.choice([1, 2, 8])
    times = coefficients(const_s=seats * 0.7 / rate_per_s / MEAN_ANSWER)
    return {"times": times, "nic_bytes_per_s": math.inf, **(ROOMY | {"max_num_seqs": seats})}


def unified_instances(rng: Random, rate_per_s: float, more: float) -> Pair:
    sets = (f"routing.prefill={rng.choice(['least_loaded', 'affinity'])}",)
    found, count = plan(1, 3, sets=sets, **busy(rng, rate_per_s)), rng.randint(1, 3)
    return UnifiedSystem, replace(found, num_instances=count), replace(found, num_instances=count + 1)


def decode_instances(rng: Random, rate_per_s: float, more: float) -> Pair:
    sets = (f"routing.decode={rng.choice(['least_loaded', 'capacity'])}",)
    count, how = rng.randint(1, 3), busy(rng, rate_per_s)
    return PdSystem, plan(1, count, sets=sets, **how), plan(1, count + 1, sets=sets, **how)


def mean_ttft_s(system: type[UnifiedSystem] | type[PdSystem], found: Plan, rows: list[Row]) -> float:
    table = by_request(served(system, found, workload(rows)))
    return float((table["first_token_s"] - table["arrival_s"]).mean())


@pytest.mark.parametrize("scarce", [bandwidth, unified_blocks, decode_blocks, unified_instances, decode_instances])
@settings(max_examples=12)
@given(seed=st.integers(0, 1 << 32))
def test_more_never_hurts(scarce: Callable[[Random, float, float], Pair], seed: int) -> None:
    rng, now_s, rows = Random(seed), 0.0, []
    rate_per_s = rng.uniform(1, 30)
    for _ in range(NUM):
        now_s += rng.expovariate(rate_per_s)
        rows.append(Row(now_s, rng.randint(8, 64), rng.randint(1, 40)))
    system, less, more = scarce(rng, rate_per_s, rng.choice([1.1, 1.5, 2, 4]))
    noise_s = NOISE_STEPS * less.step_time.coefficients.const_s
    assert mean_ttft_s(system, more, rows) <= mean_ttft_s(system, less, rows) + noise_s + 1e-9
