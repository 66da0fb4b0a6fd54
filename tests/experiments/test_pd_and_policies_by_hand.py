"""Ways to move KV, context lengths, P:D ratios and policies of tiers, each against a calculation by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from kvsim.config.bundles import find_bundles
from kvsim.config.load import set_values
from kvsim.experiments.bench import Bench
from kvsim.experiments.catalogue.eviction_policies import POLICIES
from kvsim.experiments.catalogue.interconnect import hand_transfer_s
from kvsim.plan.plan import Plan
from kvsim.policy.eviction import EVICTIONS
from kvsim.sim.run import Case, run
from kvsim.study.context import changed_plan
from kvsim.study.questions.pd_ratio import pd_ratio_study
from kvsim.study.questions.transfer import TRANSFER, transfer_variants
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.synthetic.fixed import fixed
from kvsim.workload.workload import Workload

CHUNK, PROMPT, LAYERS = 1024, 3000, 80


def alone(plan: Plan, system: str, prompt_tokens: int) -> dict[str, float]:
    """The row of one request."""
    table = run(Case("x", system, plan, fixed(1, 1.0, prompt_tokens, 5, "constant", seed=1), 7)).system.table
    return {name: float(column[0]) for name, column in table.items()}


@pytest.mark.parametrize(
    ("name", "exposed", "faster"),
    [
        # What of its KV one request waits for behind its last step: its last chunk, of that one layer, or everything.
        ("as configured", (PROMPT - 2 * CHUNK) / PROMPT, 1.0),
        ("push, by layer", (PROMPT - 2 * CHUNK) / PROMPT / LAYERS, 1.0),
        ("push, no overlap", 1.0, 1.0),
        ("compressed 2 x", (PROMPT - 2 * CHUNK) / PROMPT, 1.0),
        ("NIC x 1/4", (PROMPT - 2 * CHUNK) / PROMPT, 0.25),
        ("no contention", (PROMPT - 2 * CHUNK) / PROMPT, 1.0),
    ],
)
def test_one_request_waits_for_what_its_last_step_leaves_to_send(
    bench_of: Callable[..., Bench], name: str, exposed: float, faster: float
) -> None:
    sets = ("cluster.network.gpus_per_host=4", f"engine.max_num_batched_tokens={CHUNK}")
    plan = bench_of("transfer_strategies", *sets).plan
    values = {f"{TRANSFER}.{key}": value for key, value in transfer_variants(plan.config)[name].items()}
    found = alone(changed_plan(plan, values, name), "pd", PROMPT)
    # K and V of 8 heads of 128 in 2 bytes, 80 layers; four NICs of 50 GB/s at 76%.
    sent = 2 * 8 * 128 * 2 * LAYERS * PROMPT / (2 if name == "compressed 2 x" else 1)
    assert found["transferred_bytes"] == sent
    beside_s = hand_transfer_s(plan, 0.0)
    by_hand_s = sent * exposed / (4 * 50e9 * 0.76 * faster) + beside_s
    assert found["transfer_s"] == pytest.approx(by_hand_s, rel=1e-4)


@pytest.mark.parametrize("prompt_tokens", [4_096, 32_768])
def test_pd_alone_adds_a_transfer_and_a_decode_step_at_any_length(
    bench_of: Callable[..., Bench], prompt_tokens: int
) -> None:
    plan = bench_of("context_length", "cluster.network.gpus_per_host=4").plan
    unified, pd = (alone(plan, system, prompt_tokens) for system in ("unified", "pd"))
    budget, before, computed_s = plan.prefill_settings.max_num_batched_tokens, 0, 0.0
    while before < prompt_tokens:
        tokens = min(budget, prompt_tokens - before)
        computed_s += plan.step_time.prefill_alone_s(tokens, before)
        before += tokens
    assert unified["first_token_s"] - unified["arrival_s"] == pytest.approx(computed_s, rel=1e-6)
    last = prompt_tokens - (prompt_tokens - 1) // budget * budget
    sent_s = hand_transfer_s(plan, plan.spec.kv_bytes_per_token * last)
    step_s = plan.step_time.decode_alone_s(prompt_tokens)
    more_s = (pd["first_token_s"] - pd["arrival_s"]) - computed_s
    assert more_s == pytest.approx(sent_s + step_s, rel=1e-3)


def test_prompt_heavy_requests_are_served_as_fast_as_prefill_instances_compute(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of("pd_ratio", "studies.max_requests=600", "studies.replications=2", "studies.most_replications=2")
    answer = pd_ratio_study(bench.context(bench.plan, lambda rate, n, seed: fixed(n, rate, 4_000, 8, "poisson", seed)))
    c, budget = bench.plan.step_time.coefficients, bench.plan.prefill_settings.max_num_batched_tokens
    # Full steps of the token budget; a prompt's own attention is half a square.
    step_s = float(c.dense_s(np.array([budget]))[0]) * 4_000 / budget
    attention_s = c.b_s_per_token2 * float(c.attention_work(np.array([4_000.0]), np.zeros(1))[0])
    per_s = 1 / (step_s + attention_s)
    served = {point.ratio: point.throughput_requests_per_s.mean for point in answer.points}
    assert {ratio: prefill * per_s for ratio, prefill in zip(served, (1, 2, 3), strict=True)} == pytest.approx(
        served, rel=0.04
    )
    assert answer.best == answer.balanced == (3, 1)


def test_a_loop_over_more_than_a_tier_holds_hits_nothing_with_lru_and_most_with_the_oracle(
    bench_of: Callable[..., Bench],
) -> None:
    prompts, tokens, rounds, held = 5, 3_200, 10, 3
    gb = bench_of("eviction_policies").plan.spec.kv_bytes_per_token * tokens * held / 1e9
    small = (f"hardware.dram.capacity_gb={gb + 1e-6}", "cache.tiers=[dram]", "cache.num_workers=1")
    bench = bench_of("eviction_policies", *small, "engine.num_gpu_blocks_override=206", "model.max_model_len=3210")
    number = prompts * rounds
    loop = Workload.private(
        np.arange(number) * 30.0, np.full(number, tokens), np.full(number, 1), WorkloadInfo("loop", "synthetic")
    )
    loop = replace(loop, piece_chain=np.arange(number) % prompts)
    loaded, ttft_s = {}, {}
    for bundle in find_bundles(list(POLICIES), list(EVICTIONS)):
        table = run(Case("x", "unified", bench.plan_with(set_values(bundle.sets), bundle.name), loop, 7)).system.table
        assert not table["hit_tokens"].any()  # the GPU holds one prompt, and the next is always another
        loaded[bundle.name] = float(table["loaded_tokens"].sum())
        ttft_s[bundle.name] = float((table["first_token_s"] - table["arrival_s"]).mean())
    assert loaded["baseline"] == 0
    assert ttft_s["baseline"] == pytest.approx(bench.plan.step_time.prefill_alone_s(tokens, 0), rel=1e-6)
    # With the GPU's prompt, `held` + 1 of the loop's: the best that can be is `held` of every `prompts` - 1 accesses.
    again = (number - prompts) * tokens
    assert again * (held - 1) / (prompts - 1) < loaded["belady"] <= again * held / (prompts - 1)
    assert loaded["belady"] == max(loaded.values()) and ttft_s["belady"] == min(ttft_s.values())
