"""Systems without a cause of TTFT: what is taken away is that, exactly where a request is alone."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from builders import Row, coefficients, colocated, plan, stepwise, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic import most_blocks, random_rows

from kvsim.config import load_config
from kvsim.difference.removals import CAUSES, first_copies, put_all, waits, why_not, without
from kvsim.plan.plan import Plan, make_plan
from kvsim.record.result import COMPONENTS, SystemResult, Table
from kvsim.record.summary import ttft_s
from kvsim.sim.executor import Serial, whole
from kvsim.sim.run import Case
from kvsim.workload.workload import Workload

TIMES = coefficients(p1_s_per_token=0.125, w0_s=0.5, a_s_per_kv_token=0.015625)
SMALL = {"times": TIMES, "block_size": 4, "num_blocks": 60}


def run(plan: Plan, system: str, requests: Workload, **given: object) -> SystemResult:
    (found,) = whole(Serial().run([Case(system, system, plan, requests, 1, **given)]))  # type: ignore[arg-type]
    order = np.argsort(found.table["request_id"])
    return replace(found, table={name: column[order] for name, column in found.table.items()})


def gone(names: str, plan: Plan, system: str, requests: Workload, base: SystemResult, copies: int = 1) -> SystemResult:
    made = without(frozenset(names.split()), plan, system, requests, base, copies)
    return run(made.plan, system, made.workload, given=made.given)


def parts(table: Table, row: int = 0) -> dict[str, float]:
    return {name: float(table[name][row]) for name in COMPONENTS}


def nobody_waits(plan: Plan, system: str, requests: Workload, base: SystemResult, names: str = "queue") -> SystemResult:
    copies = first_copies(plan, system, base)
    found = gone(names, plan, system, requests, base, copies)
    while waits(found) and copies < 64:
        copies *= 2
        found = gone(names, plan, system, requests, base, copies)
    return found


@pytest.mark.parametrize("system", ["unified", "pd"])
@given(prompt=st.integers(2, 60), output=st.integers(1, 9), nic=st.sampled_from([1e3, 1e4, 1e6]), shared=st.booleans())
@settings(max_examples=15)
def test_from_a_lone_request_a_cause_takes_its_part(
    system: str, prompt: int, output: int, nic: float, shared: bool
) -> None:
    made = plan(max_num_batched_tokens=16, nic_bytes_per_s=nic, **SMALL)
    made = made if system == "pd" else colocated(made)
    requests = workload([Row(3.0, prompt, output, ((0 if shared else -1, prompt),))])
    base = run(made, system, requests)
    before, total = parts(base.table), float(ttft_s(base.table)[0])
    assert not base.table["hit_tokens"].any()

    for cause in ("queue", "interference"):
        assert parts(gone(cause, made, system, requests, base, 2).table) == pytest.approx(before)
    if system == "pd":
        left = gone("link", made, system, requests, base)
        assert parts(left.table) == pytest.approx(before | {"transfer_s": 0.0})
        assert ttft_s(left.table)[0] == pytest.approx(total - before["transfer_s"])
    left = gone("hits", made, system, requests, base)
    cached = (prompt - 1) // 4 * 4
    assert left.table["hit_tokens"].tolist() == [cached]
    alone_s = made.step_time.prefill_alone_s(prompt - cached, cached)
    assert parts(left.table)["prefill_s"] == pytest.approx(alone_s)
    others = [name for name in COMPONENTS if name not in ("prefill_s", "transfer_s")]
    assert [parts(left.table)[name] for name in others] == pytest.approx([before[name] for name in others])


@pytest.mark.parametrize("system", ["unified", "pd"])
@given(st.randoms(use_true_random=False))
@settings(max_examples=12)
def test_where_nobody_waits_each_is_alone_and_hits_what_it_hit(system: str, rng: Random) -> None:
    rows = random_rows(rng, 4)
    made = plan(1, 1, max_num_batched_tokens=16, **SMALL | {"num_blocks": 2 * most_blocks(rows, 4) + 8})
    made = made if system == "pd" else colocated(made)
    requests = workload(rows)
    base = run(made, system, requests)
    left = nobody_waits(made, system, requests, base)
    assert left.table["hit_tokens"].tolist() == base.table["hit_tokens"].tolist()
    assert left.table["transferred_bytes"] == pytest.approx(base.table["transferred_bytes"])
    for name in ("queue_s", "decode_wait_s", "interference_s", "preemption_s"):
        assert left.table[name] == pytest.approx(np.zeros(len(rows)))
    assert ttft_s(left.table).sum() <= ttft_s(base.table).sum() + 1e-9


def test_two_prompts_of_one_step_do_not_slow_each_other_down() -> None:
    made = colocated(plan(times=coefficients(p1_s_per_token=0.5), block_size=4, num_blocks=60))
    requests = workload([Row(0.0, 8), Row(0.0, 12)])
    base = run(made, "unified", requests)
    assert base.table["interference_s"].tolist() == [6.0, 4.0]
    left = gone("interference", made, "unified", requests, base)
    # Both end with the longer one.
    assert left.table["prefill_s"].tolist() == [4.0, 6.0] and left.table["interference_s"].tolist() == [2.0, 0.0]
    assert gone("interference", stepwise(made), "unified", requests, base).table["first_token_s"].tolist() == [6.0, 6.0]


def test_one_prompt_after_the_other_and_nobody_waiting() -> None:
    """A step of 4 tokens takes 2 s: the second waits for the first, 4 s, and would take 6 s alone."""
    made = colocated(plan(times=coefficients(p1_s_per_token=0.5), block_size=4, num_blocks=60, max_num_seqs=1))
    requests = workload([Row(0.0, 8), Row(0.0, 12)])
    base = run(made, "unified", requests)
    assert base.table["queue_s"].tolist() == [0.0, 4.0]
    left = nobody_waits(made, "unified", requests, base)
    assert ttft_s(left.table).tolist() == [4.0, 6.0]
    left = nobody_waits(made, "unified", requests, base, "queue hits interference")
    assert ttft_s(left.table).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("system", ["unified", "pd"])
def test_a_lone_request_of_a_real_model_loses_exactly_the_part(system: str) -> None:
    config = load_config(preset="smoke", sets=["load.warm_caches=false"], mode="pd").config
    made, requests = make_plan(config), workload([Row(0.0, 3000, 5)])
    base = run(made, system, requests)
    before = parts(base.table)
    assert before["prefill_s"] > 0.1 and (before["transfer_s"] > 1e-4) == (system == "pd")
    for cause in ("queue", "interference"):
        found = gone(cause, made, system, requests, base, first_copies(made, system, base))
        assert parts(found.table) == pytest.approx(before, abs=1e-12)
    found = gone("link", made, system, requests, base)
    assert parts(found.table) == pytest.approx(before | {"transfer_s": 0.0}, abs=1e-12)


def test_what_tiers_load_comes_at_once() -> None:
    sets = ("pd_separation.tiers=[dram]", "cache.chunk_tokens=16", "hardware.dram.read_gb_per_s=1e-6")
    made = plan(sets=(*sets, "cache.load_or_recompute=false"), times=TIMES, num_blocks=12)
    shared = ((0, 96), (-1, 8))
    requests = workload(
        [Row(0.0, pieces=shared), Row(200.0, pieces=((1, 160),)), Row(1000.0, pieces=((0, 96), (-3, 8)))]
    )
    base = run(made, "pd", requests)
    assert base.table["hit_tokens"].tolist() == [0, 0, 32] and base.table["loaded_tokens"].tolist() == [0, 0, 64]
    assert base.table["tier_load_s"][2] > 1
    left = gone("link", made, "pd", requests, base)
    assert left.table["loaded_tokens"].tolist() == [0, 0, 64]
    assert left.table["tier_load_s"] == pytest.approx(np.zeros(3), abs=1e-9)
    # Where nobody waits they are cached, and still not computed.
    left = nobody_waits(made, "pd", requests, base)
    assert left.table["hit_tokens"].tolist() == [0, 0, 96] and not left.table["loaded_tokens"].any()


def test_what_is_none_is_said() -> None:
    made = plan()
    (link, _, interference, hits) = CAUSES
    assert why_not(link, made, "pd") is None
    assert why_not(link, made, "unified") == "nothing moves over links"
    assert why_not(hits, made.with_settings("colocated", enable_prefix_caching=False), "pd") == "prefix caching is off"
    drafts = make_plan(load_config(sets=["engine.speculative.method=ngram"], preset="smoke", mode="pd").config)
    assert why_not(interference, drafts, "pd") == "not known for steps that verify drafts"
    stages = made.with_settings("colocated", pipeline_parallel=2)
    assert (
        why_not(interference, stages, "unified") == "not known for pipelines, where steps wait for each other's stages"
    )


def test_other_values_at_dotted_keys() -> None:
    config = load_config().config
    found = put_all(config, {"cluster.network.nvlink_gb_per_s": 1e30, "seed": 3})
    assert (found.cluster.network.nvlink_gb_per_s, found.seed) == (1e30, 3)
    assert config.cluster.network.nvlink_gb_per_s is None and found.cluster.eic == config.cluster.eic
