"""Engines of several stages: against recordings of vLLM's scheduler, a model of one loop, and sums made by hand."""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from builders import Row, by_request, coefficients, colocated, impatient, plan, served, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import differs, mutant_of
from pipeline_model import KV_TOKEN_S, Stages, end_times
from places import REPOSITORY
from traffic import most_blocks, random_rows

from kvsim.plan.plan import Plan
from kvsim.record.result import Table
from kvsim.sim.clock import Clock
from kvsim.sim.engine import hybrid, pipeline_engine, pipeline_scheduler
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.log.detail import DetailLog
from kvsim.sim.log.steps import StepLog
from kvsim.sim.run import Case, run
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import AffineStepTime
from kvsim.steptime.curves.pipeline import PipelineStepTime
from kvsim.validate import replay
from kvsim.validate.recording import Recording, read_recording

FILES = sorted((REPOSITORY / "tests/vllm/pipeline_recordings").glob("*.json.gz"))
"""Made by ``tests/vllm/record_pipeline.py``, whose ``--check`` makes them again."""
MUTATIONS = {
    "a token on its way is no hindrance": ("if self._step < flight.eligible_step:", "if False:"),
    "the next token a step too early": ("self._step + self._stride\n", "self._step + self._stride - 1\n"),
    "the next token a step too late": ("self._step + self._stride\n", "self._step + self._stride + 1\n"),
    "empty steps do not count": ("self._step += 1", "self._step += 1 if self.planned else 0"),
    "who is preempted is let in while output is on its way": ("if self._flights[sequence].stale:", "if False:"),
    "nobody goes before who waits for output": (
        "passed.append(self.waiting.popleft())\n                continue",
        "break",
    ),
    "stale output counts as ahead": ("if not is_stale:", "if True:"),
    "output on its way is not stale": ("= flight.steps, 0", "= 0, 0"),
    "what is ahead outlives a preemption": (
        "flight.stale, flight.placeholders = flight.steps, 0",
        "flight.stale = flight.steps",
    ),
    "a step too many at the end": ("if placeholders and sequence.computed + 2", "if False and sequence.computed + 2"),
    "outputs are not hashed": (
        "if sequence in self.running:\n                self._hash",
        "if False:\n                self._hash",
    ),
    "unknown tokens are hashed": ("min(tokens, sequence.num_tokens) //", "tokens //"),
    "chunks on their way are none": (
        "flight.steps += 1\n            if gives",
        "flight.steps += gives\n            if gives",
    ),
    "who is preempted is let in again at once": ("if self.waiting and not self.preempted:", "if self.waiting:"),
    "outputs in another order": (
        "for sequence, _, gives in step.outputs:",
        "for sequence, _, gives in step.outputs[::-1]:",
    ),
    "synchronous engines schedule ahead": ("if gives and self._is_async:", "if gives:"),
    "answers begin before the prompt ends": ("gives = sequence.computed >= sequence.num_tokens", "gives = True"),
    "victims stay planned": ("self.planned = [one for one in self.planned if one[0] is not victim]", "pass"),
    "who was passed over is last": ("self.waiting.extendleft(reversed(passed))", "self.waiting.extend(passed)"),
}
ENGINE_MUTATIONS = {
    "no pause after nothing": ("PAUSE_S: Final = 1e-3", "PAUSE_S: Final = 0.0"),
    "the queue has room for one more": ("len(queue) < self._room and", "len(queue) <= self._room and"),
    "output is waited for first": ("len(queue) < self._room and (executed or scheduler.has_requests)", "False"),
    "stages take several batches": ("if free[place] > arrived_s:", "if False:"),
    "sends take no time": ("arrived_s += self._times.send_s(place, tokens)", "pass"),
    "tokens are there before they are given": ("if known_s > arrived_s:", "if False:"),
    "a stage is free before it has sent": (
        "            free[place] = arrived_s\n",
        "            free[place] = arrived_s - 1e-3\n",
    ),
    "pauses after every turn": ("if not executed and scheduler.has_requests:", "if scheduler.has_requests:"),
}


class Listener:
    """Counts ends."""

    def __init__(self) -> None:
        self.ended = 0

    def prefilled(self, engine: object, sequence: Sequence) -> None: ...

    def computing(self, engine: object, sequence: Sequence, first: int, end: int, end_s: float) -> None: ...

    def preempted(self, engine: object, sequence: Sequence) -> None: ...

    def finished(self, engine: object, sequence: Sequence) -> None:
        self.ended += 1


@cache
def recording(file: Path) -> Recording:
    return read_recording(file)


@cache
def content(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
    return found


def step_time(stages: list[list[float]], send: list[float]) -> PipelineStepTime:
    own = tuple(AffineStepTime(coefficients(w0_s=batch_s, w1_s_per_token=token_s)) for batch_s, token_s in stages)
    return PipelineStepTime(own, ((send[0], send[1]),) * (len(own) - 1), own[0].coefficients)


def ends_of(file: Path, module: ModuleType = pipeline_engine) -> list[tuple[float, int]]:
    """End and tokens of each step that has any, by an engine with a clock of its own."""
    times, recorded, clock = content(file)["config"]["pipeline"], recording(file), Clock()
    detail, listener = DetailLog(), Listener()
    engine = module.PipelineEngine(
        clock, 0, "colocated", recorded.settings, step_time(**times), listener, StepLog(), detail=detail.engine(0)
    )
    arriving = replay._sequences(recorded)
    for sequence in arriving:
        clock.schedule(sequence.state.request.arrival_s, callback=lambda _, one=sequence: engine.submit(one))
    clock.run_to_stop()
    assert listener.ended == len(arriving)
    rows = detail.steps.table()
    return list(zip(rows["end_s"], rows["prefill_tokens"] + rows["decode_seqs"], strict=True))


def recorded_ends(file: Path) -> list[tuple[float, int]]:
    counted = ((step["end_s"], sum(tokens for _, tokens in step["scheduled"])) for step in content(file)["steps"])
    return [(end_s, tokens) for end_s, tokens in counted if tokens]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_step_of_the_recordings_is_reproduced(file: Path) -> None:
    assert any(step.preempted for one in FILES for step in recording(one).steps)
    assert replay.first_difference(recording(file)) is None


@pytest.mark.sources
@pytest.mark.parametrize("name", MUTATIONS)
def test_every_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = mutant_of(pipeline_scheduler, *MUTATIONS[name], monkeypatch)
    monkeypatch.setattr(hybrid, "PipelineScheduler", mutant.PipelineScheduler)
    monkeypatch.setattr(replay, "PipelineScheduler", mutant.PipelineScheduler)
    assert any(differs(recording(file)) for file in FILES), "nothing noticed"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_step_ends_when_the_recorded_one_does(file: Path) -> None:
    assert ends_of(file) == recorded_ends(file)


@pytest.mark.sources
@pytest.mark.parametrize("name", ENGINE_MUTATIONS)
def test_every_broken_rule_of_time_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = mutant_of(pipeline_engine, *ENGINE_MUTATIONS[name], monkeypatch)
    assert any(ends_of(file, mutant) != recorded_ends(file) for file in FILES), "nothing noticed"


TIMES = [[(0.05, 0.003), (0.04, 0.002)], [(0.02, 0.001), (0.06, 0.004), (0.03, 0.002)]]
SEND = (0.001, 0.0002)


def staged(times: list[tuple[float, float]], send: tuple[float, float] = SEND, **changes: object) -> Plan:
    """One instance of single-GPU stages that nothing but the budget and the seats limits."""
    own = tuple(
        AffineStepTime(
            coefficients(
                w0_s=batch_s,
                w1_s_per_token=token_s,
                a_s_per_kv_token=KV_TOKEN_S,
                a_mixed_s_per_kv_token=KV_TOKEN_S,
            )
        )
        for batch_s, token_s in times
    )
    steps = PipelineStepTime(own, (send,) * (len(own) - 1), own[0].coefficients)
    found = colocated(plan(1, 1, block_size=16)).with_instances(step_time=steps)
    return found.with_settings("colocated", pipeline_parallel=len(times), **changes)


def on_stages(found: Plan, rows: list[Row]) -> Table:
    return by_request(served(UnifiedSystem, found, workload(rows)))


request = st.tuples(st.integers(0, 60), st.integers(1, 40), st.integers(1, 6))


@settings(max_examples=60, deadline=None)
@given(
    drawn=st.lists(request, min_size=1, max_size=8),
    times=st.sampled_from(TIMES),
    budget=st.sampled_from([8, 16, 64]),
    seats=st.sampled_from([2, 8]),
    is_async=st.booleans(),
)
def test_end_times_are_those_of_one_loop_over_turns(
    drawn: list[tuple[int, int, int]], times: list[tuple[float, float]], budget: int, seats: int, is_async: bool
) -> None:
    asked = [(arrival * 0.0371, prompt, output) for arrival, prompt, output in sorted(drawn, key=lambda one: one[0])]
    limits = {"max_num_batched_tokens": budget, "max_num_seqs": seats, "async_scheduling": is_async}
    found = on_stages(staged(times, **limits), [Row(*one) for one in asked])
    first_s, last_s = end_times(asked, Stages(times, SEND, is_async), budget, seats)
    np.testing.assert_allclose(found["first_token_s"], first_s, rtol=1e-12)
    np.testing.assert_allclose(found["finish_s"], last_s, rtol=1e-12)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("times", TIMES)
def test_one_request_alone_takes_the_sum_of_stages_and_sends(times: list[tuple[float, float]], is_async: bool) -> None:
    """A prompt of 10 tokens and three further ones, each with one token more to read."""
    found = on_stages(staged(times, async_scheduling=is_async), [Row(0.0, 10, 4)])

    def way_s(tokens: int, kv: int) -> float:
        own_s = sum(batch_s + token_s * tokens + KV_TOKEN_S * kv for batch_s, token_s in times)
        return own_s + (len(times) - 1) * (SEND[0] + SEND[1] * tokens)

    # The turn that takes an output has scheduled nothing, and pauses; scheduled ahead, the next token is on its way.
    pause_s = 0.0 if is_async else 0.001
    assert found["first_token_s"][0] == pytest.approx(way_s(10, 0), rel=1e-12)
    expected_s = way_s(10, 0) + sum(pause_s + way_s(1, kv) for kv in (11, 12, 13))
    assert found["finish_s"][0] == pytest.approx(expected_s, rel=1e-12)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("count", [2, 4])
def test_a_full_pipeline_of_equal_stages_ends_a_batch_in_a_stages_time(count: int, is_async: bool) -> None:
    """As many prompts as there are stages, each a batch of its own: 200 tokens each, one after the other."""
    times = [(0.05, 0.0)] * count
    limits = {"max_num_batched_tokens": 16, "async_scheduling": is_async}
    own = staged(times, (0.0, 0.0), **limits)
    free = own.with_instances(
        step_time=PipelineStepTime(
            tuple(AffineStepTime(coefficients(w0_s=0.05)) for _ in times), ((0.0, 0.0),) * (count - 1), coefficients()
        )
    )
    found = on_stages(free, [Row(0.0, 16, 200)] * count)
    # The first token of the first prompt comes after all stages, the last of the last prompt one batch short of all.
    batches = count * 200
    assert found["finish_s"].max() == pytest.approx((count + batches - 1) * 0.05, rel=1e-12)


def test_the_slowest_stage_and_its_send_limit_a_full_pipeline() -> None:
    times = [(0.03, 0.0), (0.05, 0.0), (0.02, 0.0)]
    own = tuple(AffineStepTime(coefficients(w0_s=batch_s)) for batch_s, _ in times)
    steps = PipelineStepTime(own, ((0.01, 0.0), (0.007, 0.0)), coefficients())
    found = staged(times, max_num_batched_tokens=16, async_scheduling=True).with_instances(step_time=steps)
    table = on_stages(found, [Row(0.0, 16, 200)] * 3)
    ends_s = table["finish_s"]
    mean_s = (ends_s.max() - table["first_token_s"].min()) / (3 * 200 - 1)
    assert mean_s == pytest.approx(0.057, rel=1e-3)


def test_stages_need_several_batches_to_be_worth_it() -> None:
    """One prompt of 64 tokens in chunks of 16: one is on the first stage while the one before is on the next."""
    times = [(0.0, 0.01), (0.0, 0.01)]
    chunked, whole = (
        on_stages(staged(times, (0.0, 0.0), max_num_batched_tokens=budget), [Row(0.0, 64, 1)])["first_token_s"][0]
        for budget in (16, 64)
    )
    assert whole == pytest.approx(2 * 64 * 0.01, rel=1e-12)
    assert chunked == pytest.approx((64 + 16) * 0.01, rel=1e-12)


def test_who_comes_while_the_queue_is_full_of_nothing_waits_for_the_oldest_output() -> None:
    """Of four synchronous stages one computes; three empty steps fill the queue within 3 ms."""
    times = [(0.05, 0.0)] * 4
    table = on_stages(staged(times, (0.0, 0.0)), [Row(0.0, 10, 1), Row(0.0015, 10, 1), Row(0.01, 10, 1)])
    assert table["queue_s"][1] == pytest.approx(0.0005, abs=1e-9)
    assert table["queue_s"][2] == pytest.approx(table["first_token_s"][0] - 0.01, abs=1e-9)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_laws_hold_where_blocks_are_few_and_prefixes_shared(is_async: bool, seed: int) -> None:
    """Preemption, hits, chunks; parts of TTFT add up, and the same run again is the same."""
    rows = random_rows(Random(seed), 4, most=20)
    few = {"block_size": 4, "num_blocks": most_blocks(rows, 4) + 3, "max_num_batched_tokens": 16, "max_num_seqs": 4}
    found = staged(TIMES[seed % 2], **few, async_scheduling=is_async)
    found = found.with_instances(spec=replace(found.spec, block_size_tokens=4))
    first, second = (on_stages(found, rows) for _ in range(2))
    for name, column in first.items():
        np.testing.assert_array_equal(column, second[name], err_msg=name)
    assert len(first["finish_s"]) == len(rows)


@pytest.mark.parametrize("is_async", [False, True])
def test_clients_that_hang_up_leave_nothing_behind(is_async: bool) -> None:
    """The last one comes when all others have ended."""
    rows = [*(Row(place * 0.02, 8 + place % 9, 1 + place % 7) for place in range(60)), Row(30.0, 8, 2)]
    found = staged(TIMES[1], max_num_batched_tokens=16, max_num_seqs=4, async_scheduling=is_async)
    system = impatient(UnifiedSystem(found, workload(rows), 1), 1.7)
    system.run()
    assert 5 < system.gave_up < 55
    assert system.counts.arrived == system.counts.completed + system.counts.failed
    for engine in system.prefill_engines:
        engine.pool.check_integrity()
        assert engine.pool.num_free == engine.settings.num_blocks
        assert not engine.scheduler._flights
    assert system.backlog_tokens == [0.0]


def test_what_is_kept_of_a_run_agrees_with_its_table() -> None:
    rows = [Row(place * 0.1, 5 + place % 7, 1 + place % 5) for place in range(20)]
    found = run(Case("unified", "unified", staged(TIMES[1]), workload(rows), 1, keeps_detail=True)).system
    assert found.detail is not None
    steps = found.detail.steps
    assert int(steps["prefill_tokens"].sum()) == sum(row.prompt_tokens for row in rows)
    assert int(steps["output_tokens"].sum()) == sum(row.output_tokens for row in rows)
    order = np.argsort(steps["start_s"])
    assert (steps["start_s"][order][1:] >= steps["end_s"][order][:-1]).all()


def test_it_can_be_pickled() -> None:
    there = pickle.loads(pickle.dumps(step_time([[0.5, 0.25], [0.125, 0.5]], [0.0625, 0.25])))
    assert there.stages_s(4, 1, 0, 0, 0, 0.0) == [1.5, 2.125]
    assert there.prefill_alone_s(4, 0) == 1.5 + 2.125 + 0.0625 + 1.0
    assert there.decode_alone_s(9) == 0.75 + 0.625 + 0.0625 + 0.25
