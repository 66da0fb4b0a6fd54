"""Prompts and answers known by their token ids: what a later prompt repeats of an answer, it can hit."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.content import content_path
from kvsim.workload.hits import token_hit_rate
from kvsim.workload.read import read_trace
from kvsim.workload.workload import Workload

BLOCK = 4
Turn = tuple[list[int], list[int]]
"""Token ids of prompt and answer."""


def written(folder, turns: list[Turn]):
    path = folder / "s.jsonl"
    rows = (
        {"input_toks": len(p), "output_toks": len(o), "arrival_time_ns": i, "input_tok_ids": p, "output_tok_ids": o}
        for i, (p, o) in enumerate(turns)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(folder, turns: list[Turn]) -> Workload:
    return read_trace(written(folder, turns), hash_tokens_per_block=BLOCK)


def test_the_next_turn_continues_the_answers_chain(tmp_path) -> None:
    first, answer = list(range(10)), list(range(20, 29))
    workload = read(tmp_path, [(first, answer), (first + answer + [50, 51], [9])])
    one, two = workload
    # The first prompt ends inside the common blocks, and so does its answer: the block goes on in the second prompt.
    assert (one.pieces, one.output_chain) == (((0, 10),), 0)
    assert two.pieces == ((0, 20), (-2, 1))
    assert workload.info.generated_known
    # Full blocks asked for: 2 by the first and 5 by the second, which finds 4.
    assert workload.info.infinite_cache_hit_rate == 4 / 7
    assert workload.info.infinite_cache_hit_rate_tokens == 16 / 31


def test_an_answer_that_begins_a_block_begins_a_chain(tmp_path) -> None:
    system, answer, other = [1, 2, 3, 4], [5, 6, 7, 8], [9] * 4
    turns = [(system, answer), (system, other), (system + answer + [7], [1]), (system + other + [7], [1])]
    one, two, three, four = read(tmp_path, turns)
    assert one.pieces == two.pieces == ((0, 4),)
    assert (one.output_chain, two.output_chain) == (1, 2)
    assert (three.pieces, four.pieces) == (((0, 4), (1, 4), (-3, 1)), ((0, 4), (2, 4), (-4, 1)))


def test_a_cut_answer_is_hit_as_far_as_it_goes(tmp_path) -> None:
    prompt, answer = [1, 2, 3, 4], [5, 6, 7, 8, 10, 11, 12, 13, 14]
    one, two = read(tmp_path, [(prompt, answer), (prompt + answer[:6], [40, 41])])
    # The second prompt leaves inside a block; the first answer goes on behind what both have.
    assert (one.pieces, one.output_chain) == (((0, 4),), 0)
    assert two.pieces == ((0, 8), (-2, 2))


def test_answers_that_part_later_are_not_taken_for_one(tmp_path) -> None:
    prompt, common = [1, 2, 3, 4], [5, 6, 7, 8]
    turns = [(prompt, [*common, 20]), (prompt, [*common, 30]), (prompt + common, [1])]
    one, two, three = read(tmp_path, turns)
    assert one.pieces == two.pieces == ((0, 4),) and three.pieces == ((0, 8),)
    assert (one.output_chain, two.output_chain) == (0, -2)


def test_without_an_answers_ids_it_stays_private(tmp_path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(
        json.dumps({"input_toks": 20, "output_toks": 1, "arrival_time_ns": 1, "input_tok_ids": list(range(20))})
    )
    workload = read_trace(path)
    assert not workload.info.generated_known and "answers have no hash ids" in workload.info.notes[-1]


def test_the_sample_has_answers_to_hit() -> None:
    assert read_trace(content_path("trace", "sharegpt_sample.jsonl")).info.generated_known


def content(workload: Workload, row: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Chain and place of every token of a prompt and of its answer."""
    request = list(workload)[row]
    prompt = [(chain, place) for chain, tokens in request.pieces for place in range(tokens)]
    chain, tokens = request.pieces[-1]
    begin = tokens if chain == request.output_chain else 0
    return prompt, [(request.output_chain, begin + place) for place in range(request.output_tokens)]


ids = st.lists(st.integers(0, 1), min_size=1, max_size=14)


@st.composite
def conversations(draw) -> list[Turn]:
    """Turns of which many go on from an earlier one, after all of its answer or a part of it."""
    turns: list[Turn] = []
    for _ in range(draw(st.integers(1, 8))):
        head: list[int] = []
        if turns and draw(st.booleans()):
            prompt, answer = draw(st.sampled_from(turns))
            head = prompt + answer[: draw(st.integers(0, len(answer)))]
        turns.append((head + draw(ids), draw(ids)))
    return turns


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversations())
def test_equal_places_mean_equal_tokens_behind_equal_prefixes(tmp_path, turns: list[Turn]) -> None:
    """Nothing can be hit that is not the same, in prompts or answers, whatever the conversations do."""
    workload = read(tmp_path, turns)
    known: dict[tuple[int, int], tuple[int, ...]] = {}
    for row, (prompt, answer) in enumerate(turns):
        places, answered = content(workload, row)
        whole = tuple(prompt + answer)
        for place, key in enumerate(places + answered):
            assert known.setdefault(key, whole[: place + 1]) == whole[: place + 1]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversations())
def test_hit_rates_are_those_of_the_blocks(tmp_path, turns: list[Turn]) -> None:
    workload = read(tmp_path, turns)
    seen: set[tuple[int, ...]] = set()
    hits = asked = 0
    for prompt, answer in turns:
        whole = tuple(prompt + answer)
        full = [whole[:end] for end in range(BLOCK, len(whole) + 1, BLOCK)]
        own = [block for block in full if len(block) <= len(prompt)]
        hits += sum(block in seen for block in own)
        asked += len(own)
        seen.update(full)
    assert workload.info.infinite_cache_hit_rate == (hits / asked if asked else None)
    by_chains = token_hit_rate(
        *(workload.prompt_tokens, workload.output_tokens, workload.output_chain),
        *(workload.piece_offsets, workload.piece_chain, workload.piece_tokens),
    )
    longest = np.array([_longest_common(turns, row) for row in range(len(turns))])
    assert by_chains * workload.prompt_tokens.sum() <= longest.sum() + 1e-9


def _longest_common(turns: list[Turn], row: int) -> int:
    """Tokens of a prompt that an earlier prompt or answer begins with."""
    best = 0
    for prompt, answer in turns[:row]:
        common = 0
        for a, b in zip(turns[row][0], prompt + answer, strict=False):
            if a != b:
                break
            common += 1
        best = max(best, common)
    return best
