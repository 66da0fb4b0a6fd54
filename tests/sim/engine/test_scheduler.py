"""The engine, one event per step, against the naive reference: who runs with how many tokens, who is preempted, what is
cached, how many blocks are free."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from block_by_block import NaiveRequest, NaiveScheduler, Step, run_in_unit_steps
from builders import Row, check, colocated, plan, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic import most_blocks, random_rows

from kvsim.sim.engine import engine as engine_module
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sequence import NOBODY, Sequence
from kvsim.sim.engine.step import NO_CHUNKS
from kvsim.sim.systems.unified import UnifiedSystem

pytestmark = pytest.mark.sources


class RecordingScheduler(Scheduler):
    """Keeps what every step was, as the reference does."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.steps: list[Step] = []
        self.known: set[int] = set()

    def schedule(self) -> None:
        free_before = self.pool.num_free
        super().schedule()
        chunks = {_id(sequence): tokens for sequence, tokens in self.chunks}
        cached = {_id(s): s.computed for s, _ in self.chunks if _id(s) not in self.known}
        self.known.update(cached)
        scheduled = [(_id(s), chunks.get(_id(s), 1)) for s in self.running if s.decoding or _id(s) in chunks]
        if scheduled or self.preempted:
            preempted = [_id(sequence) for sequence in self.preempted]
            self.steps.append(Step(scheduled, preempted, cached, free_before, -1))


def _id(sequence: Sequence) -> int:
    return sequence.state.request.request_id


def naive_request(request_id: int, row: Row) -> NaiveRequest:
    """The row with every token spelled out: equal chain and position, equal token."""
    tokens = [(chain, place) for chain, count in row.pieces for place in range(count)]
    last_chain, last_tokens = row.pieces[-1]
    start = last_tokens if last_chain == row.output_chain else 0
    answer = [(row.output_chain, start + place) for place in range(row.output_tokens)]
    return NaiveRequest(request_id, row.arrival_s, tokens + answer, len(tokens), row.priority)


def compared(rows: list[Row], **engine_settings: Any) -> tuple[list[Step], list[Step], UnifiedSystem, NaiveScheduler]:
    """Steps of the engine and of the reference, every step a second long."""
    chosen = {
        "block_size": 4,
        "num_blocks": 100,
        "max_num_batched_tokens": 64,
        "max_num_seqs": 8,
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "long_prefill_token_threshold": 0,
        "watermark": 0.0,
        "scheduler_reserve_full_isl": True,
        "scheduling_policy": "fcfs",
        **engine_settings,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "scheduler_of", RecordingScheduler)
        system = UnifiedSystem(colocated(plan(stepwise=True, **chosen)), workload(rows), 1)
    system.run()
    check(system)
    naive = NaiveScheduler(
        chosen["num_blocks"],
        chosen["block_size"],
        chosen["max_num_batched_tokens"],
        chosen["max_num_seqs"],
        caching=chosen["enable_prefix_caching"],
        chunked=chosen["enable_chunked_prefill"],
        threshold=chosen["long_prefill_token_threshold"],
        watermark_blocks=int(chosen["watermark"] * (chosen["num_blocks"] + 1)),
        reserve_whole=chosen["scheduler_reserve_full_isl"],
        by_priority=chosen["scheduling_policy"] == "priority",
    )
    expected = run_in_unit_steps(naive, [naive_request(i, row) for i, row in enumerate(rows)])
    scheduler = system.prefill_engines[0].scheduler
    assert isinstance(scheduler, RecordingScheduler)
    assert not NOBODY, "the list that stands for no sequences has some"
    assert not NO_CHUNKS
    return scheduler.steps, expected, system, naive


def decisions(steps: list[Step]) -> list[tuple[Any, ...]]:
    return [(s.scheduled, s.preempted, s.cached_at_admission, s.free_before) for s in steps]


def random_example(rng: Random) -> tuple[list[Row], dict[str, Any]]:
    block_size = rng.choice([1, 2, 4])
    rows = random_rows(rng, block_size)
    need = most_blocks(rows, block_size)
    chunked = rng.random() < 0.8
    return rows, {
        "block_size": block_size,
        "num_blocks": need + rng.randint(0, need),
        "max_num_batched_tokens": rng.choice([1, 3, 8, 16, 64]) if chunked else 1000,
        "max_num_seqs": rng.randint(1, 8),
        "enable_prefix_caching": rng.random() < 0.85,
        "enable_chunked_prefill": chunked,
        "long_prefill_token_threshold": rng.choice([0, 0, 0, 2, 5]),
        "watermark": rng.choice([0.0, 0.0, 0.1, 0.25]),
        "scheduler_reserve_full_isl": rng.random() < 0.8,
        "scheduling_policy": rng.choice(["fcfs", "fcfs", "priority"]),
    }


def agrees(rng: Random) -> dict[str, bool]:
    """Compare; what the example contained."""
    rows, engine_settings = random_example(rng)
    found, expected, system, naive = compared(rows, **engine_settings)
    assert decisions(found) == decisions(expected)
    assert system.prefill_engines[0].pool.evicted_blocks == naive.pool.evicted
    assert system.prefill_engines[0].scheduler.hit_tokens == naive.hit_tokens
    return {
        "preemption": naive.preemptions > 0,
        "eviction": naive.pool.evicted > 0,
        "hit": naive.hit_tokens > 0,
        "duplicate": naive.pool.duplicates > 0,
        "take-over": naive.pool.take_overs > 0,
    }


@settings(max_examples=90)
@given(st.randoms(use_true_random=False))
def test_every_step_equals_the_reference(rng: Random) -> None:
    agrees(rng)


def test_fixed_examples_contain_what_matters() -> None:
    seen: dict[str, int] = {}
    for seed in range(500):
        for what, there in agrees(Random(seed)).items():
            seen[what] = seen.get(what, 0) + there
    assert min(seen.values()) >= 40, seen


def test_running_come_first_and_chunks_fill_the_budget() -> None:
    rows = [Row(0.0, 0, 3, ((-1, 10),), -1), Row(0.0, 0, 2, ((-2, 10),), -2)]
    steps, expected, _, _ = compared(rows, max_num_batched_tokens=8)
    assert decisions(steps) == decisions(expected)
    assert [step.scheduled for step in steps] == [
        [(0, 8)],
        [(0, 2), (1, 6)],
        [(0, 1), (1, 4)],
        [(0, 1), (1, 1)],
    ]


def test_the_last_running_request_is_preempted_and_finds_its_own_blocks_again() -> None:
    rows = [Row(0.0, 0, 8, ((-1, 8),), -1), Row(0.0, 0, 8, ((-2, 8),), -2)]
    steps, expected, system, _ = compared(rows, num_blocks=6)
    assert decisions(steps) == decisions(expected)
    assert [step.preempted for step in steps if step.preempted] == [[1]]
    assert system.requests.table()["preemptions"].tolist() == [0, 1]
    assert system.requests.table()["recomputed_tokens"].sum() > 0


def test_a_head_that_does_not_fit_blocks_those_behind_it() -> None:
    rows = [Row(0.0, 0, 9, ((-1, 16),), -1), Row(1.0, 0, 1, ((-2, 16),), -2), Row(1.0, 0, 1, ((-3, 1),), -3)]
    steps, expected, _, _ = compared(rows, num_blocks=7)
    assert decisions(steps) == decisions(expected)
    first = {request: k for k, step in reversed(list(enumerate(steps))) for request, _ in step.scheduled}
    assert first[1] == first[2] == 9


def test_a_prompt_admitted_in_the_same_step_hits_blocks_that_are_not_computed_yet() -> None:
    rows = [Row(0.0, 0, 1, ((0, 8), (-1, 3)), -1), Row(0.0, 0, 1, ((0, 8), (-2, 3)), -2)]
    steps, _, _, _ = compared(rows)
    assert steps[0].cached_at_admission == {0: 0, 1: 8}


def test_the_last_prompt_token_is_always_computed() -> None:
    rows = [Row(0.0, 0, 1, ((0, 8),), -1), Row(5.0, 0, 1, ((0, 8),), -2)]
    steps, _, _, _ = compared(rows)
    assert steps[1].cached_at_admission == {1: 4}


def test_the_watermark_holds_only_while_something_runs() -> None:
    rows = [Row(0.0, 0, 6, ((-1, 4),), -1), Row(1.0, 0, 1, ((-2, 24),), -2)]
    steps, expected, _, _ = compared(rows, num_blocks=10, watermark=0.3)
    assert decisions(steps) == decisions(expected)
    assert [1 in dict(step.scheduled) for step in steps] == [False] * 6 + [True]


def test_without_chunks_a_prompt_waits_for_a_budget_that_holds_it_whole() -> None:
    rows = [Row(0.0, 0, 2, ((-1, 6),), -1), Row(0.0, 0, 1, ((-2, 6),), -2)]
    steps, _, _, _ = compared(rows, max_num_batched_tokens=8, enable_chunked_prefill=False)
    assert [step.scheduled for step in steps] == [[(0, 6)], [(0, 1), (1, 6)]]


def test_a_long_prompt_ignores_the_threshold_as_long_as_it_is_alone() -> None:
    alone, _, _, _ = compared([Row(0.0, 0, 1, ((-1, 10),), -1)], long_prefill_token_threshold=4)
    assert [step.scheduled for step in alone] == [[(0, 10)]]
    rows = [Row(0.0, 0, 1, ((-1, 10),), -1), Row(0.0, 0, 1, ((-2, 1),), -2)]
    both, _, _, _ = compared(rows, long_prefill_token_threshold=4)
    assert [step.scheduled for step in both] == [[(0, 4), (1, 1)], [(0, 6)]]
    rows = [Row(0.0, 0, 1, ((-1, 10),), -1), Row(0.0, 0, 2, ((-2, 1),), -2)]
    longer, _, _, _ = compared(rows, long_prefill_token_threshold=4)
    assert [step.scheduled for step in longer] == [[(0, 4), (1, 1)], [(0, 4), (1, 1)], [(0, 2)]]


def test_the_budget_of_a_victim_that_had_its_turn_goes_to_those_after_it() -> None:
    rows = [
        Row(0.0, 0, 4, ((-1, 17),), -1, priority=3),
        Row(1.0, 0, 2, ((-2, 10),), -2, priority=2),
        Row(2.0, 0, 7, ((-3, 5),), -3, priority=1),
    ]
    steps, expected, _, _ = compared(
        rows,
        num_blocks=8,
        max_num_batched_tokens=8,
        max_num_seqs=4,
        long_prefill_token_threshold=3,
        scheduler_reserve_full_isl=False,
        scheduling_policy="priority",
    )
    assert decisions(steps) == decisions(expected)
    assert (steps[3].scheduled, steps[3].preempted) == ([(1, 3), (2, 3)], [0])
