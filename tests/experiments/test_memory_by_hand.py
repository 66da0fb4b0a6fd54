"""One prompt that comes back after it was evicted: loading it from each memory, by bytes over bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from kvsim.experiments.bench import Bench
from kvsim.experiments.catalogue.tier_sizing import Memory, with_memory
from kvsim.plan.plan import Plan
from kvsim.sim.run import Case, run
from kvsim.study.memory import changed
from kvsim.workload.synthetic.assembled import Assembly

ONE_HOST = ("cluster.simulate_racks=1", "cluster.simulate_gpus_per_rack=4", "cluster.total_gpus=4")
PROMPT_TOKENS, GB = 48_000, 1e9


def third_of(plan: Plan) -> Mapping[str, float]:
    """The row of a prompt that was served, evicted by a longer one, and comes again."""
    found = Assembly()
    found.add(0.0, [("prompt", PROMPT_TOKENS)], 2)
    found.add(100.0, [(None, 100_000)], 2)
    found.add(200.0, [("prompt", PROMPT_TOKENS)], 2)
    table = run(Case("x", "unified", plan, found.workload("x", (), closed=False), 1)).system.table
    (row,) = (table["request_id"] == 2).nonzero()[0]
    return {name: float(column[row]) for name, column in table.items()}


@pytest.mark.parametrize(
    ("memory", "bytes_per_s", "latency_s"),
    [
        # DRAM: PCIe of four GPUs, less than the host's 300 GB/s. The rack's pool: NICs of four GPUs at 76% of 50 GB/s,
        # less than its 200. Computed are the tokens behind the last whole chunk.
        ("dram", 4 * 55 * GB, 0.1e-3),
        ("eic", 4 * 50 * 0.76 * GB, 0.02e-3),
    ],
)
def test_a_prompt_is_loaded_at_the_bandwidth_of_its_memory(
    bench_of: Callable[..., Bench], memory: str, bytes_per_s: float, latency_s: float
) -> None:
    plan = bench_of("tier_sizing", *ONE_HOST).plan
    beside = with_memory(plan, Memory(200.0)) if memory == "dram" else changed(plan, ("eic",))
    without, found = third_of(with_memory(plan, Memory())), third_of(beside)
    assert without["loaded_tokens"] == 0 < found["loaded_tokens"]
    load_s = found["loaded_tokens"] * plan.spec.kv_bytes_per_token / bytes_per_s + latency_s
    assert found["tier_load_s"] == pytest.approx(load_s, rel=1e-3)
    chunk = plan.config.cache.chunk_tokens
    there = (PROMPT_TOKENS - 1) // chunk * chunk
    ttft_s = found["first_token_s"] - found["arrival_s"]
    assert ttft_s == pytest.approx(load_s + plan.step_time.prefill_alone_s(PROMPT_TOKENS - there, there), rel=1e-3)
    # Without it the evicted part is computed, in steps of the token budget.
    budget, start, by_hand_s = plan.colocated_settings.max_num_batched_tokens, int(without["hit_tokens"]), 0.0
    while start < PROMPT_TOKENS:
        end = min(start + budget, PROMPT_TOKENS)
        by_hand_s += plan.step_time.prefill_alone_s(end - start, start)
        start = end
    assert without["first_token_s"] - without["arrival_s"] == pytest.approx(by_hand_s, rel=1e-3)
