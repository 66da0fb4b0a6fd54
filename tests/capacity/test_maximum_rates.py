"""Maximum rates: exact where all but one cost is zero, and within 3% of what saturated systems do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import KV_BYTES_PER_TOKEN, Row, coefficients, plan, workload
from places import DATA

from kvsim.capacity.demand import CacheFacts, Demand, SharedPrompts, cache_facts, demand_of
from kvsim.capacity.maximum_rates import (
    balanced_pd_ratio,
    colocated_requests_per_s,
    decode_load_at,
    decode_requests_per_s,
    full_decode_load,
    maximum_rate,
    pd_requests_per_s,
    prefill_requests_per_s,
)
from kvsim.capacity.prefill_packing import packed, packed_whole
from kvsim.config import load_config
from kvsim.plan.engine_settings import Speculation
from kvsim.plan.plan import Plan, make_plan, unified_plan
from kvsim.sim.outcome import outcome
from kvsim.sim.run import Case, run
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.reading import AS_IT_STANDS
from kvsim.workload.traffic import TraceSource, TraceTraffic

FAST_NIC = 1e15
UNBLOCKED = {"block_size": 1}


def equal(prompt_tokens: int, output_tokens: int, **changes: object) -> Demand:
    """Requests of one length, without hits."""
    prompts = np.full(100, float(prompt_tokens))
    outputs = np.full(100, float(output_tokens))
    shared = SharedPrompts(np.zeros(0), np.zeros(0), float(prompt_tokens))
    return replace(Demand(prompts, outputs, np.zeros(100), prompts, 0.0, shared), **changes)


def free_flowing(**settings: object) -> Plan:
    return plan(1, 1, nic_bytes_per_s=FAST_NIC, **settings)


def test_prefill_by_tokens():
    found = free_flowing(times=coefficients(p1_s_per_token=1e-3))
    assert prefill_requests_per_s(found, equal(500, 10)) == pytest.approx(2.0)


def test_prefill_steps_are_full():
    found = free_flowing(times=coefficients(const_s=1.0), max_num_batched_tokens=200)
    assert prefill_requests_per_s(found, equal(100, 10)) == pytest.approx(2.0)
    assert prefill_requests_per_s(found, equal(400, 10)) == pytest.approx(0.5)


def test_prefill_seats_bound_a_step():
    found = free_flowing(times=coefficients(const_s=1.0), max_num_batched_tokens=1000, max_num_seqs=3)
    assert prefill_requests_per_s(found, equal(100, 10)) == pytest.approx(3.0)


def test_prefill_counts_a_sequence_in_every_step_it_is_part_of():
    found = free_flowing(times=coefficients(s_s_per_seq=1.0), max_num_batched_tokens=150)
    assert prefill_requests_per_s(found, equal(100, 10)) == pytest.approx(1 / 1.33, rel=1e-2)


@pytest.mark.parametrize("budget", [64, 300, 5000])
def test_attention_of_a_prompt_does_not_depend_on_its_chunks(budget: int):
    found = free_flowing(times=coefficients(b_s_per_token2=1e-6), max_num_batched_tokens=budget)
    assert prefill_requests_per_s(found, equal(1000, 10)) == pytest.approx(2.0)


def test_attention_looks_at_cached_tokens_too():
    found = free_flowing(times=coefficients(b_s_per_token2=1e-6))
    half = equal(1000, 10, hit_tokens=np.full(100, 500.0))
    assert prefill_requests_per_s(found, half) == pytest.approx(1 / (1e-6 * 500 * (500 + 250)))


def test_whole_prompts_leave_room_they_do_not_fit_in():
    found = free_flowing(
        times=coefficients(const_s=1.0), max_num_batched_tokens=1000, enable_chunked_prefill=False, num_blocks=10_000
    )
    assert prefill_requests_per_s(found, equal(300, 10)) == pytest.approx(3.0, rel=0.05)


def test_packing():
    pieces = packed(np.array([5.0, 7.0]), np.array([0.0, 10.0]), 4.0)
    assert pieces.tokens.tolist() == [4, 1, 3, 4]
    assert pieces.prefix_tokens.tolist() == [0, 4, 10, 13]
    assert packed_whole(np.array([5.0, 7.0, 2.0, 9.0]), 9.0, 10).tolist() == [5, 9, 9]
    assert packed_whole(np.array([1.0, 1.0, 1.0]), 9.0, 2).tolist() == [2, 1]


def test_links_bound_both_sides():
    demand = equal(100, 10)
    found = plan(1, 1, times=coefficients(const_s=1e-6), nic_bytes_per_s=5 * 100 * KV_BYTES_PER_TOKEN)
    assert pd_requests_per_s(found, demand) == pytest.approx((5.0, 5.0))
    free = plan(
        1,
        1,
        sets=("pd_separation.transfer.contention=none",),
        times=coefficients(p1_s_per_token=1e-3),
        nic_bytes_per_s=KV_BYTES_PER_TOKEN,
    )
    assert pd_requests_per_s(free, demand)[0] == pytest.approx(10.0)


@pytest.mark.parametrize(("first_token", "steps"), [("decode", 10), ("prefill", 9)])
def test_decode_by_seats(first_token: str, steps: int):
    found = free_flowing(
        sets=(f"pd_separation.first_token={first_token}",), times=coefficients(const_s=0.1), max_num_seqs=4
    )
    assert decode_requests_per_s(found, equal(100, 10)) == pytest.approx(4 / (steps * 0.1))


def test_decode_reads_contexts_that_grow():
    found = free_flowing(times=coefficients(a_s_per_kv_token=1e-4), max_num_seqs=4)
    assert decode_requests_per_s(found, equal(100, 11)) == pytest.approx(4 / (11 * 1e-4 * 4 * 105))


def test_answers_of_one_forwarded_token_need_no_decode():
    found = free_flowing(sets=("pd_separation.first_token=prefill",))
    assert decode_requests_per_s(found, equal(100, 1)) == np.inf
    assert balanced_pd_ratio(found, equal(100, 1)) == (1, 1)


def test_stragglers_wait_for_the_longest():
    times = coefficients(straggler_s_per_token=1e-3, straggler_min_seqs=2)
    found = free_flowing(times=times, max_num_seqs=50)
    mixed = np.where(np.arange(100) < 50, 100.0, 300.0)
    demand = replace(equal(200, 10), prompt_tokens=mixed)
    assert decode_requests_per_s(found, demand) == pytest.approx(50 / (10 * 1e-3 * 100), rel=1e-6)


def test_room_bounds_decodes():
    found = free_flowing(times=coefficients(const_s=1.0), num_blocks=10_000, **UNBLOCKED)
    # Pending requests, half a step each of 21, hold another 90 / 42 tokens per decoding one.
    assert full_decode_load(found, equal(90, 21)).num_seqs == pytest.approx(10_000 / 102, rel=0.03)
    reserving = found.with_settings("decode", output_margin_tokens=111)
    assert full_decode_load(reserving, equal(90, 21)).num_seqs == pytest.approx(10_000 / 200, rel=0.03)


def test_what_requests_share_is_held_once():
    shared = SharedPrompts(np.array([1.0, 0.25]), np.array([100.0, 40.0]), 10.0)
    assert shared.held_tokens(1) == pytest.approx(120.0)
    assert shared.held_tokens(2) == pytest.approx(100 + 40 * (1 - 0.75**2) + 20)
    rows = [Row(i, 0, 10, ((0, 100), (-1 - i, 20))) for i in range(8)]
    found = demand_of(workload(rows), plan(1, 1))
    assert found.shared.held_tokens(5) == pytest.approx(200.0)
    alone = demand_of(workload(rows), plan(1, 1, enable_prefix_caching=False))
    assert alone.shared.held_tokens(5) == pytest.approx(600.0)


def test_load_below_the_maximum():
    found = free_flowing(times=coefficients(const_s=0.1, s_s_per_seq=0.01), max_num_seqs=40)
    load = decode_load_at(found, equal(100, 10), 5.0)
    assert load.num_seqs == pytest.approx(5.0 * 10 * (0.1 + 0.01 * load.num_seqs))


def test_unified_budget_bound():
    found = free_flowing(times=coefficients(const_s=1.0), max_num_batched_tokens=110, max_num_seqs=100)
    assert colocated_requests_per_s(found, equal(100, 11)) == pytest.approx(1.0)


def test_unified_seat_bound():
    """An answer of 11 tokens keeps its seat for 11 steps, the one that computes its prompt included."""
    found = free_flowing(times=coefficients(const_s=1.0), max_num_batched_tokens=5000, max_num_seqs=20)
    assert colocated_requests_per_s(found, equal(100, 11)) == pytest.approx(20 / 11, rel=0.02)


def test_unified_seats_free_sooner_where_drafts_are_accepted():
    """Two tokens a step, one or three as often: 10 tokens behind the first, and 0.75 beyond the end, in 5.375 steps."""
    found = free_flowing(times=coefficients(const_s=1.0), max_num_batched_tokens=5000, max_num_seqs=20)
    drafted = found.with_settings("colocated", speculation=Speculation("ngram", 2, (0.5, 0.5)))
    assert colocated_requests_per_s(drafted, equal(100, 11)) == pytest.approx(20 / 6.375, rel=0.02)


def test_maximum_rate_of_an_engine_that_drafts_is_what_it_serves():
    """Saturated, 16 seats, an EAGLE-3 head: completions a second of a run that lacks no work."""
    sets = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", "engine.max_num_seqs=16")
    asked = ("engine.speculative.method=eagle3", "engine.enable_prefix_caching=false")
    found = unified_plan(load_config(sets=(*sets, *asked), mode="instance").config, 1)
    rows = [Row(i * 0.02, 500, 120) for i in range(300)]
    finish_s = np.sort(run(Case("unified", "unified", found, workload(rows), 1)).system.table["finish_s"])
    served_per_s = 200 / (finish_s[250] - finish_s[50])
    assert colocated_requests_per_s(found, equal(500, 120)) == pytest.approx(served_per_s, rel=0.04)


def test_unified_answers_of_one_token():
    found = free_flowing(times=coefficients(p1_s_per_token=1e-3))
    assert colocated_requests_per_s(found, equal(500, 1)) == pytest.approx(2.0)


def test_hits_follow_prompt_lengths():
    rows = [Row(0, tokens, 5) for tokens in (10, 1000, 20, 2000)]
    facts = CacheFacts(np.array([3000.0, 15.0]), np.array([1500.0, 0.0]), np.array([300.0, 15.0]))
    found = demand_of(workload(rows), plan(1, 1), facts)
    assert found.hit_tokens.tolist() == [0, 500, 0, 1000]
    assert found.sent_tokens.tolist() == [10, 100, 20, 200]


def test_requests_that_never_fit_are_no_demand():
    rows = [Row(0, 10, 5), Row(1, 5000, 5)]
    assert demand_of(workload(rows), plan(1, 1, num_blocks=10)).prompt_tokens.tolist() == [10]


@pytest.mark.parametrize("output_tokens", [1, 3, 20, 200, 2000])
def test_balanced_ratio_is_the_best_of_all(output_tokens: int):
    times = coefficients(p1_s_per_token=1e-3, const_s=0.01, s_s_per_seq=0.001)
    found, demand = plan(4, 4, times=times, nic_bytes_per_s=FAST_NIC), equal(300, output_tokens)
    prefill, decode = balanced_pd_ratio(found, demand)
    rates = {p: maximum_rate(found.with_counts(p, 8 - p), demand, "pd") for p in range(1, 8)}
    assert prefill + decode == 8
    assert rates[prefill] == max(rates.values())


# On traces


TRACES = {"azure": "AzureLLMInferenceTrace_conv.csv", "mooncake": "mooncake_conversation_trace.jsonl"}


def trace(name: str) -> TraceTraffic:
    folder = DATA / "traces"
    if not folder.is_dir():
        pytest.skip(f"third-party traces are not at {folder} (KVSIM_DATA)")
    return TraceTraffic(TraceSource(folder / TRACES[name], AS_IT_STANDS), None, 1)


@pytest.mark.parametrize(
    ("name", "system", "pd_ratio", "budget", "num_requests"),
    [
        ("azure", "pd", "[1,1]", 8192, 6000),
        ("azure", "pd", "[3,1]", 8192, 8000),
        ("azure", "unified", "[1,1]", 8192, 9000),
        ("azure", "unified", "[1,1]", 512, 6000),
        ("mooncake", "pd", "[1,1]", 8192, 1500),
        ("mooncake", "pd", "[7,1]", 8192, 4000),
        ("mooncake", "unified", "[1,1]", 8192, 3000),
    ],
)
def test_saturated_throughput(name: str, system: str, pd_ratio: str, budget: int, num_requests: int):
    """Completions a second of an overloaded system are the analytic maximum for what its requests found in caches."""
    parts = sum(int(part) for part in pd_ratio.strip("[]").split(","))
    sets = ("cluster.simulate_racks=1", f"cluster.simulate_gpus_per_rack={4 * parts}")
    found = make_plan(load_config(sets=[*sets, f"pd_separation.pd_ratio={pd_ratio}"]).config)
    found = found.with_colocated_budget(budget)
    traffic = trace(name)
    rate_per_s = 1.15 * maximum_rate(found, demand_of(traffic.population(), found), system)
    requests = traffic.sample(rate_per_s, num_requests, 20, 1)
    run = PdSystem(found, requests, 1) if system == "pd" else UnifiedSystem(found, requests, 1)
    run.run()
    result = outcome(run, warmup_requests=num_requests // 4, unsteady_factor=1.0)
    finish_s, (start_s, end_s) = result.table["finish_s"], result.window_s
    rows = (finish_s > start_s) & (finish_s <= end_s)
    served = requests_of(result.table, rows)
    demand = demand_of(served, found, cache_facts(result.table, rows, found))
    # The longest of a batch of long contexts is taken for longer than it is, and all wait for it.
    near = 0.06 if pd_ratio == "[7,1]" else 0.03
    assert rows.sum() / (end_s - start_s) == pytest.approx(maximum_rate(found, demand, system), rel=near)


def requests_of(table: dict, rows: np.ndarray):
    order = np.argsort(table["request_id"][rows])
    lengths = zip(table["prompt_tokens"][rows][order], table["output_tokens"][rows][order], strict=True)
    return workload([Row(i, int(prompt), int(output)) for i, (prompt, output) in enumerate(lengths)])


def test_azure_wants_about_three_prefill_instances_a_decode_instance():
    found = make_plan(load_config().config)
    prefill, decode = balanced_pd_ratio(found, demand_of(trace("azure").population(), found))
    assert 2.5 <= prefill / decode <= 3.5
