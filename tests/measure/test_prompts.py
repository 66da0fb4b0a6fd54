"""Prompts hold what the server really answered, and say where they do not."""

from __future__ import annotations

import numpy as np

from kvsim.measure.prompts import Prompts
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

ALPHABET = np.arange(1000, 2000)


def conversation() -> Workload:
    """Three turns of one chain: 10 tokens and an answer of 4, then 20 and 5, then 30; and one that shares nothing."""
    return Workload(
        arrival_s=np.arange(4.0),
        prompt_tokens=np.array([10, 20, 30, 10], dtype=np.int32),
        output_tokens=np.array([4, 5, 6, 7], dtype=np.int32),
        session_id=np.array([0, 0, 0, 1]),
        output_chain=np.array([0, 0, 0, -4]),
        piece_offsets=np.arange(5),
        piece_chain=np.array([0, 0, 0, -4]),
        piece_tokens=np.array([10, 20, 30, 10], dtype=np.int32),
        info=WorkloadInfo("t", "t"),
    )


def ids(prompts: Prompts, row: int, workload: Workload) -> list[int]:
    return np.concatenate([part.ids for part in prompts.parts(workload.request(row))]).tolist()


def test_answers_stand_in_later_prompts() -> None:
    workload = conversation()
    prompts = Prompts(workload, ALPHABET, 1)
    first, second, third, alone = (workload.request(row) for row in range(4))
    assert [prompts.holds_answer_of(each) for each in (first, second, third, alone)] == [True, True, False, False]
    begun = ids(prompts, 0, workload)
    assert not prompts.is_settled(second) and prompts.is_settled(alone)
    prompts.answered(first, np.array([1, 2, 3, 4]))
    assert prompts.is_settled(second) and not prompts.is_settled(third)
    parts = prompts.parts(second)
    assert [(len(part.ids), part.is_answer) for part in parts] == [(10, False), (4, True), (6, False)]
    whole = np.concatenate([part.ids for part in parts]).tolist()
    assert whole[:14] == [*begun, 1, 2, 3, 4] and min(whole[14:]) >= 1000
    prompts.answered(second, np.array([5, 6, 7, 8, 9]))
    assert ids(prompts, 2, workload)[:25] == [*whole, 5, 6, 7, 8, 9]
    assert (prompts.answer_tokens, prompts.made_up_tokens) == (4 + 4 + 5, 0)


def test_an_unknown_answer_is_made_up_and_counted() -> None:
    workload = conversation()
    prompts = Prompts(workload, ALPHABET, 1)
    begun = ids(prompts, 0, workload)
    prompts.answered(workload.request(0), None)
    assert prompts.is_settled(workload.request(1))
    second = ids(prompts, 1, workload)
    assert second[:10] == begun and prompts.made_up_tokens == 4
    assert ids(prompts, 2, workload)[:20] == second and prompts.made_up_tokens == 4 + 5


def test_what_was_sent_before_an_answer_came_stays() -> None:
    """Two prompts of one conversation share what their pieces say, whatever came between."""
    workload = conversation()
    prompts = Prompts(workload, ALPHABET, 1)
    second = ids(prompts, 1, workload)
    prompts.answered(workload.request(0), np.array([1, 2, 3, 4]))
    assert ids(prompts, 2, workload)[:20] == second
    assert prompts.made_up_tokens == 4 + 5


def test_an_answer_that_ended_early_is_filled_up() -> None:
    workload = conversation()
    prompts = Prompts(workload, ALPHABET, 1)
    begun = ids(prompts, 0, workload)
    prompts.answered(workload.request(0), np.array([1, 2]))
    second = ids(prompts, 1, workload)
    assert second[:12] == [*begun, 1, 2] and len(second) == 20 and prompts.made_up_tokens == 2
