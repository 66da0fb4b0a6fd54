"""Replays of a shared cache: hits by hand, and whom the hybrid policy helps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kvsim.experiments.bench import Bench
from kvsim.experiments.mixed_turns import ANSWER_TOKENS, SYSTEM_TOKENS, TURNS, mixed_turns
from kvsim.experiments.replays import ALL, MULTI_TURN, PREFILL, SINGLE_TURN, Passed, prefill_ms
from kvsim.plan.plan import Plan


@pytest.fixture
def plan(bench_of: Callable[..., Bench]) -> Plan:
    return bench_of("single_vs_multi_turn").plan


def test_a_conversation_alone_finds_what_its_last_prompt_had(plan: Plan) -> None:
    workload, is_multi = mixed_turns(TURNS, 0.0, seed=1)
    assert len(workload) == TURNS and is_multi.all()
    passed = Passed.of(workload, is_multi, 16)
    found = passed.figures("lru", passed.accesses.num_different, plan, 0)
    # Each prompt but the first finds the whole blocks of the one before it, up to its answer, which was no prompt's.
    prompts = workload.prompt_tokens.astype(int)
    assert prompts[0] > SYSTEM_TOKENS and (np.diff(prompts) > ANSWER_TOKENS).all()
    hit = (prompts[:-1] // 16 * 16).sum()
    assert found[ALL] == pytest.approx(hit / prompts.sum())
    assert found[MULTI_TURN] == found[ALL] and found[SINGLE_TURN] == 0


def test_a_prompt_that_hits_is_computed_from_there(plan: Plan) -> None:
    prompts, hits = np.array([4096.0, 4096.0]), np.array([0.0, 2048.0])
    whole_ms, rest_ms = prefill_ms(plan, prompts, hits)
    step = plan.step_time
    assert whole_ms - rest_ms == pytest.approx(1e3 * (step.prefill_alone_s(4096, 0) - step.prefill_alone_s(2048, 2048)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hybrid_beats_lru_and_loses_on_neither_kind(plan: Plan, seed: int) -> None:
    passed = Passed.of(*mixed_turns(600, 0.5, seed), 64)
    for share in (0.1, 0.2):
        capacity = passed.capacity_blocks(share)
        lru, hybrid, oracle = (passed.figures(name, capacity, plan, 0) for name in ("lru", "hybrid", "belady"))
        assert lru[ALL] < hybrid[ALL] < oracle[ALL]
        assert hybrid[SINGLE_TURN] >= lru[SINGLE_TURN] and hybrid[MULTI_TURN] >= lru[MULTI_TURN]
        assert hybrid[PREFILL] < lru[PREFILL]
