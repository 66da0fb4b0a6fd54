"""Engines that share experts step together: against a model of one loop, and one rule at a time."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from both_ways import random_case
from builders import Row, by_request, coefficients, plan, served, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep_model import COSTS, end_times, group_step_s
from traffic import most_blocks, random_rows

from kvsim.plan.engine_settings import Speculation
from kvsim.plan.plan import ROLES, Plan
from kvsim.record.result import Table
from kvsim.sim.run import Case, run
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import AffineStepTime
from kvsim.steptime.curves.lockstep import LockstepStepTime, SharedLayers
from kvsim.steptime.curves.speculative import SpeculativeStepTime

OWN = coefficients(
    const_s=COSTS.own_s,
    w1_s_per_token=COSTS.token_s,
    a_s_per_kv_token=COSTS.kv_token_s,
    a_mixed_s_per_kv_token=COSTS.kv_token_s,
)
EXPERTS = ((1.0, COSTS.expert_token_s), (100.0, 100 * COSTS.expert_token_s))
SHARED = SharedLayers(EXPERTS, COSTS.exchange_s, COSTS.exchanged_token_s, gathers=True)


def times(engines: int = 2, sizes: tuple[int, ...] = ()) -> LockstepStepTime:
    return LockstepStepTime(AffineStepTime(OWN, sizes), SHARED, engines, OWN, sizes)


def grouped(engines: int = 2, interval: int = 16, sizes: tuple[int, ...] = (), **changes: object) -> Plan:
    """One group of single-GPU engines that nothing but the budget limits."""
    sets = (f"engine.data_parallel_size={engines}", f"engine.dp_sync_interval={interval}")
    found = plan(1, engines - 1, sets=(*sets, "routing.prefill=round_robin"), block_size=16, **changes)
    return found.with_instances(step_time=times(engines, sizes))


def on_group(rows: list[Row], **changes: object) -> Table:
    return by_request(served(UnifiedSystem, grouped(**changes), workload(rows)))


request = st.tuples(st.integers(0, 40), st.integers(1, 40), st.integers(1, 6))


@settings(max_examples=40, deadline=None)
@given(
    drawn=st.lists(request, min_size=1, max_size=8),
    engines=st.integers(2, 3),
    budget=st.sampled_from([8, 16, 64]),
    interval=st.sampled_from([2, 3, 16]),
    is_async=st.booleans(),
)
def test_end_times_are_those_of_one_loop_over_steps(
    drawn: list[tuple[int, int, int]], engines: int, budget: int, interval: int, is_async: bool
) -> None:
    drawn = sorted(drawn, key=lambda one: one[0])
    rows = [Row(arrival * 0.0371, prompt, output) for arrival, prompt, output in drawn]
    changes = {"max_num_batched_tokens": budget, "max_num_seqs": 8, "async_scheduling": is_async}
    found = on_group(rows, engines=engines, interval=interval, **changes)
    asked = [
        (row.arrival_s, row.prompt_tokens, row.output_tokens, int(engine))
        for row, engine in zip(rows, found["prefill_instance"], strict=True)
    ]
    first_s, last_s = end_times(asked, engines, budget, interval, is_async)
    np.testing.assert_allclose(found["first_token_s"], first_s, rtol=1e-12)
    np.testing.assert_allclose(found["finish_s"], last_s, rtol=1e-12)


def test_an_engine_without_work_costs_a_token_and_the_exchange() -> None:
    found = on_group([Row(0.0, 10, 3)])
    steps = [group_step_s([(10, 0), (0, 0)]), group_step_s([(1, 11), (0, 0)]), group_step_s([(1, 12), (0, 0)])]
    assert found["first_token_s"][0] == pytest.approx(steps[0])
    assert found["finish_s"][0] == pytest.approx(sum(steps))


def test_a_prompt_on_one_engine_slows_the_decodes_of_the_other_by_the_step_of_both() -> None:
    """Round robin: the second request's prompt of 40 tokens comes while the first decodes elsewhere."""
    alone, beside = on_group([Row(0.0, 10, 9)]), on_group([Row(0.0, 10, 9), Row(0.17, 40, 1)])
    assert beside["prefill_instance"].tolist() == [0, 1]
    # The step that is under way at 0.17 is the second one; the third reads 12 tokens.
    slower_s = group_step_s([(1, 12), (40, 0)]) - group_step_s([(1, 12), (0, 0)])
    assert beside["finish_s"][0] - alone["finish_s"][0] == pytest.approx(slower_s)
    assert beside["first_token_s"][1] == pytest.approx(
        sum(group_step_s([batch, other]) for batch, other in (((10, 0), (0, 0)), ((1, 11), (0, 0)), ((1, 12), (40, 0))))
    )


def test_time_that_others_take_is_interference() -> None:
    found = on_group([Row(0.0, 10, 1), Row(0.0, 40, 1)])
    together_s, alone_s = group_step_s([(10, 0), (40, 0)]), group_step_s([(10, 0), (0, 0)])
    assert found["prefill_s"][0] == pytest.approx(alone_s)
    assert found["interference_s"][0] == pytest.approx(together_s - alone_s)


@pytest.mark.parametrize(("interval", "steps"), [(2, 2), (4, 4)])
def test_engines_ask_each_other_now_and_then_whether_all_are_idle(interval: int, steps: int) -> None:
    """The first request has two steps. Steps without any request go on to a multiple of the interval; one that comes
    meanwhile waits for the end of such a step, and one that comes after them does not."""
    begun_s = [0.0]
    for batch in [(10, 0), (1, 11), *[(0, 0)] * (steps - 2)]:
        begun_s.append(begun_s[-1] + group_step_s([batch, (0, 0)]))
    late = on_group([Row(0.0, 10, 2), Row(begun_s[-1] + 0.01, 10, 1)], interval=interval)
    assert late["queue_s"][1] == pytest.approx(0.0)
    if steps > 2:
        early = on_group([Row(0.0, 10, 2), Row(begun_s[-2] + 0.01, 10, 1)], interval=interval)
        assert early["queue_s"][1] == pytest.approx(begun_s[-1] - begun_s[-2] - 0.01)


def test_one_that_ends_with_the_first_step_of_a_wave_ends_the_wave() -> None:
    """Three waves of one step: each counts its steps from the first."""
    step_s = group_step_s([(10, 0), (0, 0)])
    rows = [Row(place * (step_s + 0.01), 10, 1) for place in range(3)]
    assert on_group(rows)["queue_s"] == pytest.approx([0.0, 0.0, 0.0])


def test_an_engine_that_stood_by_holds_nothing_meanwhile() -> None:
    """The second engine holds the 3 blocks of 40 tokens for one step, which is its first and the group's third."""
    rows = [Row(0.0, 10, 9), Row(0.17, 40, 1)]
    system = served(UnifiedSystem, grouped(), workload(rows))
    held = system.prefill_engines[1].held_so_far_block_s()
    assert held == pytest.approx(3 * group_step_s([(1, 12), (40, 0)]))


def test_graphs_pad_all_engines_to_the_largest_batch() -> None:
    """Steps of 10 and 1 tokens run as 16 and 16; one of 40 fits no graph, so that nobody is padded."""
    padded = grouped(sizes=(4, 16)).step_time
    assert isinstance(padded, LockstepStepTime)
    own = padded.own
    short_s, long_s = own.prefill_alone_s(10, 0), own.decode_alone_s(50)
    of_16 = COSTS.own_s + 16 * COSTS.token_s
    experts = 32 * COSTS.expert_token_s + COSTS.exchange_s + 16 * COSTS.exchanged_token_s
    assert padded.step_s([short_s, long_s], [10, 1]) == pytest.approx(of_16 + 50 * COSTS.kv_token_s + experts)
    assert padded.step_s([short_s], [10]) == padded.step_s([short_s, own.decode_alone_s(1)], [10, 1])
    long_prompt_s = own.prefill_alone_s(40, 0)
    experts = 41 * COSTS.expert_token_s + COSTS.exchange_s + 40 * COSTS.exchanged_token_s
    assert padded.step_s([long_prompt_s, long_s], [40, 1]) == pytest.approx(long_prompt_s + experts)


def test_arithmetic_takes_all_engines_for_alike() -> None:
    step_time = times()
    assert step_time.mixed_s(30, 3, 0, 0, 0, 0.0) == pytest.approx(group_step_s([(30, 0), (30, 0)]))
    first_s, slope_s, _ = step_time.decode_span(4, 100, 0)
    assert first_s == pytest.approx(group_step_s([(4, 100), (4, 100)]))
    assert slope_s == pytest.approx(4 * COSTS.kv_token_s)
    assert step_time.member.prefill_alone_s(10, 0) == pytest.approx(group_step_s([(10, 0), (0, 0)]))


def test_sent_tokens_count_by_the_engine_that_sends_most_or_the_gpu_that_gets_most() -> None:
    sent = SharedLayers(EXPERTS, 0.5, 0.01, gathers=False, received_share=0.75)
    assert sent.exchange_s(10, 8, 2) == pytest.approx(0.5 + 0.08)
    assert sent.exchange_s(20, 10, 10) == pytest.approx(0.5 + 0.15)


def test_it_can_be_pickled() -> None:
    there = pickle.loads(pickle.dumps(times(3, (4, 16))))
    assert there.step_s([1.0, 2.0], [3, 5]) == times(3, (4, 16)).step_s([1.0, 2.0], [3, 5])
    assert pickle.loads(pickle.dumps(times().member)).prefill_alone_s(7, 0) == times().member.prefill_alone_s(7, 0)


def test_the_same_seed_gives_the_same_table() -> None:
    rows = [Row(i * 0.03, 5 + i % 7, 1 + i % 5) for i in range(40)]
    first, second = on_group(rows, engines=3), on_group(rows, engines=3)
    for name, column in first.items():
        np.testing.assert_array_equal(column, second[name], err_msg=name)


def test_groups_do_not_wait_for_each_other() -> None:
    """Four engines, two groups: round robin sends the first request to one and the third to the other."""
    sets = ("engine.data_parallel_size=2", "routing.prefill=round_robin")
    found = plan(2, 2, sets=sets, block_size=16).with_instances(step_time=times())
    table = by_request(served(UnifiedSystem, found, workload([Row(0.0, 10, 4), Row(0.0, 1, 1), Row(0.0, 90, 1)])))
    alone = on_group([Row(0.0, 10, 4)])
    apart = [int(table["prefill_instance"][place]) // 2 for place in (0, 2)]
    assert apart[0] != apart[1]
    assert table["finish_s"][0] <= alone["finish_s"][0] + group_step_s([(10, 0), (1, 0)])


@pytest.mark.parametrize("system", [UnifiedSystem, PdSystem])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_laws_hold_where_blocks_are_few_and_prefixes_shared(
    system: type[UnifiedSystem] | type[PdSystem], is_async: bool, seed: int
) -> None:
    """Preemption, hits, chunks: of both roles' groups, the last of three decode engines in a group of its own."""
    rows = random_rows(Random(seed), 4, most=20)
    sets = ("engine.data_parallel_size=2", "routing.prefill=affinity")
    few = {"block_size": 4, "num_blocks": most_blocks(rows, 4) + 3, "max_num_batched_tokens": 16, "max_num_seqs": 4}
    found = plan(2, 3, sets=sets, **few, async_scheduling=is_async).with_instances(step_time=times(sizes=(4, 8)))
    first, second = (by_request(served(system, found, workload(rows), 3)) for _ in range(2))
    for name, column in first.items():
        np.testing.assert_array_equal(column, second[name], err_msg=name)
    assert len(first["finish_s"]) == len(rows)


@pytest.mark.parametrize("is_async", [False, True])
def test_drafts_are_verified_in_the_groups_steps(is_async: bool) -> None:
    """All accepted: the prompt's step, then two steps of 4 tokens each; the other engine has 4 for nobody."""
    asked = Speculation("eagle", 3, (1.0, 1.0, 1.0))
    found = grouped(async_scheduling=is_async)
    own = LockstepStepTime(AffineStepTime(OWN), SHARED, 2, OWN, (), 4)
    drafting = SpeculativeStepTime(own, None, 3, OWN)
    found = found.with_instances(step_time=drafting).with_settings(*ROLES, speculation=asked)
    table = by_request(served(UnifiedSystem, found, workload([Row(0.0, 10, 9)])))

    def step_s(tokens: int, kv: int) -> float:
        own_s = COSTS.own_s + COSTS.token_s * tokens + COSTS.kv_token_s * kv
        moved_s = COSTS.exchange_s + COSTS.exchanged_token_s * (tokens + 4 - min(tokens, 4))
        return own_s + COSTS.expert_token_s * (tokens + 4) + moved_s

    assert table["first_token_s"][0] == pytest.approx(step_s(10, 0))
    assert table["finish_s"][0] == pytest.approx(step_s(10, 0) + step_s(4, 14) + step_s(4, 18))


def test_what_is_kept_of_a_run_agrees_with_its_table() -> None:
    rows = [Row(i * 0.1, 5 + i % 7, 1 + i % 5) for i in range(20)]
    found = run(Case("unified", "unified", grouped(), workload(rows), 1, keeps_detail=True)).system
    assert found.detail is not None
    steps = found.detail.steps
    assert int(steps["prefill_tokens"].sum()) == sum(row.prompt_tokens for row in rows)
    assert int(steps["output_tokens"].sum()) == sum(row.output_tokens for row in rows)
    # Two engines' steps either begin and end together, or lie apart.
    spans = {(start, end) for start, end in zip(steps["start_s"], steps["end_s"], strict=True)}
    assert all(other[0] >= one[1] - 1e-9 for one, other in pairwise(sorted(spans)))


@pytest.mark.parametrize("system", [UnifiedSystem, PdSystem])
@pytest.mark.parametrize("seed", range(12))
def test_a_group_of_one_that_shares_nothing_is_an_engine(
    system: type[UnifiedSystem] | type[PdSystem], seed: int
) -> None:
    """Steps one by one, without a word on whether others are idle: whatever blocks, budgets and transfers do.

    Of PD both sides have room for all: where somebody waits for KV to come or to leave, a group computes for nobody
    meanwhile, and an engine sleeps.
    """
    found, requests = random_case(Random(seed))
    found = found.with_settings(*ROLES, async_scheduling=False, stepwise=True)
    found = found.with_settings("prefill", "decode", num_blocks=9999)
    own, nothing = found.step_time, SharedLayers(((1.0, 0.0), (2.0, 0.0)), 0.0, 0.0, gathers=True)
    config = found.config.model_copy(update={"engine": found.config.engine.model_copy(update={"dp_sync_interval": 1})})
    alone = LockstepStepTime(own, nothing, 1, own.coefficients)
    expected = by_request(served(system, found, requests))
    table = by_request(served(system, replace(found, config=config).with_instances(step_time=alone), requests))
    for name, column in expected.items():
        np.testing.assert_allclose(table[name], column, rtol=1e-9, atol=1e-9, err_msg=name)
