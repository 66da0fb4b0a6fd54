"""Maximum rates of unified instances where the pool is short: what saturated engines serve, preemption included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import Row, coefficients, colocated, plan, workload

from kvsim.capacity.demand import demand_of
from kvsim.capacity.gathered import unified_facts
from kvsim.capacity.maximum_rates import colocated_requests_per_s, maximum_rate
from kvsim.capacity.saturated import Saturated, played
from kvsim.config import load_config
from kvsim.plan.plan import Plan, make_plan
from kvsim.sim.outcome import outcome
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.traffic import ChatTraffic
from kvsim.workload.workload import Workload

RAG = ("pd_trace.kind=rag", "pd_trace.output_tokens_mean=200")
SMALL = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1")
TIMES = coefficients(
    w0_s=0.01,
    p1_s_per_token=1e-4,
    a_s_per_kv_token=1e-6,
    a_mixed_s_per_kv_token=2e-6,
    b_s_per_token2=1e-8,
    const_s=2e-3,
)


def overloaded(found: Plan, requests: Workload, end_s: float) -> tuple[float, float, float]:
    """Completions a second in the last 60% of the time until then, the maximum for those requests, and preemptions of
    one of them."""
    run = UnifiedSystem(found, requests, 1)
    run.clock.schedule(end_s, callback=lambda _: run.clock.stop())
    run.run()
    table = outcome(run, warmup_requests=0, unsteady_factor=1.0).table
    rows = table["finish_s"] > 0.4 * end_s
    served = table["request_id"][rows].astype(np.int64)
    demand = demand_of(requests, found, unified_facts(requests, table, rows, found), served)
    return rows.sum() / (0.6 * end_s), maximum_rate(found, demand, "unified"), float(table["preemptions"][rows].mean())


@pytest.mark.parametrize(
    ("sets", "num_requests", "preempts"),
    [
        ((*SMALL, "engine.num_gpu_blocks_override=1500"), 3000, 0.3),
        ((*SMALL, "engine.num_gpu_blocks_override=1500", "engine.enable_prefix_caching=false"), 3000, 0.2),
        ((*SMALL, "pd_trace.output_tokens_mean=3000"), 3000, 2.0),
        (("engine.num_gpu_blocks_override=6000", "pd_separation.tiers=[dram,ssd]"), 3500, 0.3),
        ((), 7500, 0.3),
    ],
    ids=["1,500 blocks", "without a cache", "long answers", "tiers", "default"],
)
def test_chat(sets: tuple[str, ...], num_requests: int, preempts: float) -> None:
    config = load_config(preset="smoke", sets=sets).config
    found = replace(make_plan(config), num_instances=1)
    traffic = ChatTraffic(config)
    rate_per_s = 2 * maximum_rate(found, demand_of(traffic.population(), found), "unified")
    requests = traffic.sample(rate_per_s, num_requests, None, 1)
    simulated, computed, preemptions = overloaded(found, requests, float(requests.arrival_s[-1]))
    assert preemptions > preempts
    assert computed == pytest.approx(simulated, rel=0.03)


@pytest.mark.parametrize(
    "sets",
    [("engine.num_gpu_blocks_override=1500",), ("engine.num_gpu_blocks_override=2000", *RAG)],
    ids=["chat", "rag"],
)
def test_a_router_that_brings_those_together_that_begin_alike(sets: tuple[str, ...]) -> None:
    """By chance 12 instances would have a seventh less of such requests in their pools."""
    sets = (*SMALL, "cluster.simulate_racks=1", "cluster.simulate_gpus_per_rack=12", *sets)
    config = load_config(sets=sets).config
    found, traffic = make_plan(config), ChatTraffic(config)
    rate_per_s = 2 * maximum_rate(found, demand_of(traffic.population(), found), "unified")
    requests = traffic.sample(rate_per_s, 4000, None, 1)
    simulated, computed, _ = overloaded(found, requests, float(requests.arrival_s[-1]))
    assert computed == pytest.approx(simulated, rel=0.03)


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize(
    "settings", [{"num_blocks": 400}, {"num_blocks": 70}, {"max_num_seqs": 7}, {"num_blocks": 300, "watermark": 0.2}]
)
def test_prompts_of_their_own(settings: dict[str, float], caching: bool) -> None:
    random = np.random.default_rng(5)
    prompts, outputs = random.integers(20, 900, 1500), np.maximum(random.integers(-60, 200, 1500), 1)
    rows = [Row(0, prompt, output) for prompt, output in zip(prompts.tolist(), outputs.tolist(), strict=True)]
    found = colocated(plan(1, 1, times=TIMES, max_num_batched_tokens=2048, enable_prefix_caching=caching, **settings))
    requests = workload(rows)
    end_s = 1000 / colocated_requests_per_s(found, demand_of(requests, found))
    simulated, computed, _ = overloaded(found, requests, end_s)
    assert computed == pytest.approx(simulated, rel=0.03)


def case(**changes: object) -> Saturated:
    ones = np.ones(50)
    equal = Saturated(
        needs=100 * ones,
        computed=80 * ones,
        contexts=101 * ones,
        steps=20 * ones,
        room_tokens=1000.0,
        kept_tokens=0.0,
        seats=100,
        budget_tokens=1000,
        caches=True,
    )
    return replace(equal, **changes)


def test_nothing_is_lost_where_the_room_holds_everybody() -> None:
    """Ten seats of 20 steps and the one that computes the prompt: 200 decodes in 21 steps at the most."""
    found = played(case(room_tokens=10**6, seats=10), 10, 1)
    assert not found.again
    assert found.mean_seqs == pytest.approx(10 * 20 / 21, rel=0.01)
    assert sum(step[2] for step in found.mixed) == pytest.approx(3000 * 80, rel=0.01)
    assert found.generated == pytest.approx(3000 * 20, rel=0.01)


def test_what_was_given_back_is_computed_again() -> None:
    kept, lost = played(case(), 8, 1), played(case(caches=False), 8, 1)
    assert kept.again
    assert lost.again
    assert all(tokens >= 100 for tokens, _ in lost.again)
    assert np.mean([tokens for tokens, _ in kept.again]) < np.mean([tokens for tokens, _ in lost.again])
    assert all(tokens + prefix >= 100 for tokens, prefix in kept.again)


def test_one_that_fills_the_room_is_alone() -> None:
    found = played(case(needs=np.full(50, 990.0)), 1, 1)
    assert found.mean_seqs == pytest.approx(20 / 21, rel=0.01)
    assert max(span[1] for span in found.pure) == 1
