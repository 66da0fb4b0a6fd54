"""Leaping over steps changes nothing: every time and every count equals those of one event per step."""

from __future__ import annotations

from random import Random

import pytest
from both_ways import random_case, same_both_ways
from builders import Row, by_request, check, colocated, plan, stepwise, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from step_tables import random_tables, table_times

from kvsim.plan.engine_settings import SglangSettings
from kvsim.plan.plan import ROLES, Plan
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.workload import Workload

pytestmark = pytest.mark.sources


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_unified_leaps_like_single_steps(rng: Random) -> None:
    found, requests = random_case(rng)
    same_both_ways(UnifiedSystem, colocated(found), requests)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_pd_leaps_like_single_steps(rng: Random) -> None:
    found, requests = random_case(rng)
    same_both_ways(PdSystem, found, requests)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_spans_that_end_at_the_knots_of_tables_are_single_steps_too(rng: Random) -> None:
    found, requests = random_case(rng)
    found = found.with_instances(step_time=table_times(random_tables(rng), rng.choice([(), (1, 2, 4)])))
    same_both_ways(UnifiedSystem, colocated(found), requests)
    same_both_ways(PdSystem, found, requests)


@pytest.mark.parametrize(
    ("prefix_cache", "policy"), [("radix", "fcfs"), ("radix", "lpm"), ("radix", "dfs_weight"), ("paged", "lpm")]
)
@settings(max_examples=40, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_other_caches_and_orders_leap_like_single_steps(prefix_cache: str, policy: str, rng: Random) -> None:
    found, requests = random_case(rng)
    found = found.with_settings(*ROLES, prefix_cache=prefix_cache, scheduling_policy=policy)
    same_both_ways(UnifiedSystem, colocated(found), requests)
    same_both_ways(PdSystem, found, requests)


SGLANG_POLICIES = ("fcfs", "lpm", "dfs_weight", "lof")


def by_sglang(rng: Random) -> tuple[Plan, Workload]:
    """Unified instances that schedule as SGLang's do, and their traffic: every other time answers outgrow the pool."""
    found, requests = random_case(rng)
    if rng.random() < 0.5:
        size = found.colocated_settings.block_size
        rows = [Row(rng.choice([0.0, 1.0, 3.0]), rng.randint(1, 2 * size), rng.randint(5, 40)) for _ in range(9)]
        longest = max(row.prompt_tokens + row.output_tokens for row in rows)
        blocks = 2 * longest // size + 4
        requests = workload(sorted(rows, key=lambda row: row.arrival_s))
        found = found.with_settings(*ROLES, num_blocks=blocks, max_num_seqs=8, max_num_batched_tokens=1000)
    sglang = SglangSettings(
        enable_mixed_chunk=rng.random() < 0.5,
        max_prefill_tokens=rng.choice([64, 16_384]),
        schedule_conservativeness=rng.choice([0.0, 0.0, 0.1, 1.0]),
        ignore_eos=rng.random() < 0.15,
    )
    policy = rng.choice(SGLANG_POLICIES)
    return colocated(
        found.with_settings(*ROLES, prefix_cache="radix", scheduling_policy=policy, sglang=sglang)
    ), requests


@settings(max_examples=80, deadline=None)
@given(st.randoms(use_true_random=False))
def test_sglang_s_scheduler_leaps_like_single_steps(rng: Random) -> None:
    same_both_ways(UnifiedSystem, *by_sglang(rng))


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_sglang_s_scheduler_gives_every_request_its_tokens(rng: Random) -> None:
    """With overlap, too, where a token under way is lost to a retraction and made again."""
    own, requests = by_sglang(rng)
    for chosen in (False, True):
        system = UnifiedSystem(own.with_settings("colocated", async_scheduling=chosen), requests, 1)
        system.run()
        check(system)
        table = by_request(system)
        given_tokens = int(table["output_tokens"].sum())
        system.prefill_log.flush()
        assert system.prefill_log.itl.distribution().count == given_tokens - (table["output_tokens"] > 0).sum()


def test_fixed_examples_of_sglang_s_contain_retractions() -> None:
    seen: dict[str, int] = {}
    for seed in range(120):
        for what, there in same_both_ways(UnifiedSystem, *by_sglang(Random(seed))).items():
            seen[what] = seen.get(what, 0) + there
    for what in ("preemption", "eviction", "hit", "tie", "fewer events"):
        assert seen[what] >= 8, (what, seen)


def test_news_of_evictions_are_as_old_as_the_evictions() -> None:
    """An answer has evicted a prompt by 60 s: a router that is a second behind knows at 61.5 s that nobody has it."""
    rows = [Row(0.0, 12, 1, ((0, 8), (-1, 4))), Row(1.0, 8, 1), Row(2.0, 16, 60), Row(61.5, 12, 1, ((0, 8), (-4, 4)))]
    found = plan(1, 1, sets=("routing.index_staleness_ms=1000",), block_size=4, num_blocks=19)
    for settings_of in (found, stepwise(found)):
        system = UnifiedSystem(settings_of, workload(rows), 1)
        system.run()
        assert by_request(system)["prefill_instance"].tolist() == [0, 1, 0, 1]


def test_fixed_examples_contain_what_matters() -> None:
    """Counted, so that the property is known to have been tried on preemptions, exhaustion, ties and backpressure."""
    seen: dict[tuple[str, str], int] = {}
    for seed in range(120):
        found, requests = random_case(Random(seed))
        for system, where in ((UnifiedSystem, colocated(found)), (PdSystem, found)):
            for what, there in same_both_ways(system, where, requests).items():
                seen[system.name, what] = seen.get((system.name, what), 0) + there
    for system in ("unified", "pd"):
        for what in ("preemption", "eviction", "hit", "tie", "fewer events"):
            assert seen[system, what] >= 8, (system, what, seen)
    assert seen["pd", "backpressure"] >= 8, seen


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_asynchronous_scheduling_gives_every_request_the_same_tokens(rng: Random) -> None:
    """Nobody gets a token too many or too few; only when they come differs."""
    found, requests = random_case(rng)
    expected_gaps = int(requests.output_tokens.sum()) - len(requests)
    for chosen in (False, True):
        system = UnifiedSystem(colocated(found.with_settings("colocated", async_scheduling=chosen)), requests, 1)
        system.run()
        check(system)
        table = by_request(system)
        assert table["output_tokens"].tolist() == requests.output_tokens.tolist()
        system.prefill_log.flush()
        assert system.prefill_log.itl.distribution().count == expected_gaps
