from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kvsim.errors import WorkloadError
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.workload import Workload

SYSTEM_PROMPTS = 32


def shared_tokens(workload: Workload) -> np.ndarray:
    on_system = (workload.piece_chain >= 0) & (workload.piece_chain < SYSTEM_PROMPTS)
    return np.add.reduceat(np.where(on_system, workload.piece_tokens, 0), workload.piece_offsets[:-1])


@pytest.mark.parametrize("seed", [1, 2, 42])
def test_the_default_traffic_has_the_documented_means(traffic, seed: int) -> None:
    workload = chat(traffic(), 40_000, 150.0, seed)
    assert workload.prompt_tokens.mean() == pytest.approx(2000, rel=0.03)
    assert workload.output_tokens.mean() == pytest.approx(700, rel=0.03)
    assert shared_tokens(workload).mean() == pytest.approx(1200, rel=0.03)
    assert workload.info.infinite_cache_hit_rate_tokens == pytest.approx(0.69, abs=0.03)
    assert workload.info.generated_known


def test_arrivals_are_stationary_from_the_start(traffic) -> None:
    workload = chat(traffic(), 40_000, 150.0, 3)
    assert workload.mean_rate_per_s == pytest.approx(150, rel=0.02)
    per_bin, _ = np.histogram(workload.arrival_s, bins=10)
    assert np.abs(per_bin - 4000).max() < 5 * np.sqrt(4000)
    history = np.array_split(workload.prompt_tokens - shared_tokens(workload), 10)
    assert max(part.mean() for part in history) / min(part.mean() for part in history) < 1.2


def conversations(workload: Workload) -> dict[int, list]:
    by_chain: dict[int, list] = {}
    for request in workload:
        if request.output_chain >= 0:
            by_chain.setdefault(request.output_chain, []).append(request)
    return by_chain


def test_a_turn_continues_where_its_conversation_stopped(traffic) -> None:
    """Within a conversation every prompt holds the earlier prompts and answers, and waits for the answer."""
    workload = chat(traffic(), 8000, 2.0, 5)
    turns = [turn for requests in conversations(workload).values() for turn in pairwise(requests)]
    assert len(turns) > 100
    for before, after in turns:
        assert before.session_id == after.session_id
        assert before.pieces[0] == after.pieces[0]
        assert after.pieces[1][1] > before.pieces[1][1] + before.output_tokens
        assert after.arrival_s - before.arrival_s >= before.output_tokens * assumed_pace_s(None) - 1e-9
    assert max(len(requests) for requests in conversations(workload).values()) == 4


def test_other_sessions_share_their_system_prompt_alone(traffic) -> None:
    private = [request for request in chat(traffic(), 4000, 50.0, 6) if request.output_chain < 0]
    assert private
    assert all(request.pieces[-1][0] == request.output_chain == -1 - request.request_id for request in private)
    assert {request.pieces[0][0] for request in private} <= set(range(SYSTEM_PROMPTS))


def test_the_hit_rate_is_that_of_the_requests(traffic) -> None:
    workload = chat(traffic(), 3000, 5.0, 7)
    reached: dict[int, int] = {}
    hit = 0
    for request in workload:
        for chain, tokens in request.pieces:
            if chain >= 0:
                hit += min(tokens, reached.get(chain, 0))
                reached[chain] = max(tokens, reached.get(chain, 0))
        if request.output_chain >= 0:
            reached[request.output_chain] = max(
                reached[request.output_chain], request.pieces[-1][1] + request.output_tokens
            )
    assert workload.info.infinite_cache_hit_rate_tokens == pytest.approx(hit / workload.prompt_tokens.sum())


def test_the_same_seed_gives_the_same_requests(traffic) -> None:
    assert list(chat(traffic(), 500, 10.0, 1)) == list(chat(traffic(), 500, 10.0, 1))
    assert list(chat(traffic(), 500, 10.0, 1)) != list(chat(traffic(), 500, 10.0, 2))


def test_seed_keys_are_honoured(traffic) -> None:
    section = traffic(
        num_sessions=300,
        prompt_tokens_min=512,
        prompt_tokens_max=4096,
        initial_context_tokens=8192,
        num_system_prompts=4,
        history_tokens_mean=0,
    )
    workload = chat(section, 1000, 100.0, 42, max_output_tokens=128)
    assert workload.output_tokens.max() == 128
    new = workload.prompt_tokens - 8192
    assert 512 <= new.min() < 540 and 4060 < new.max() <= 4096
    assert set(workload.piece_chain[workload.piece_chain >= 0]) == set(range(4))
    assert len(set(workload.session_id.tolist())) >= 290
    assert len(workload) == 1000


def test_one_turn_sessions_and_no_system_prompt(traffic) -> None:
    workload = chat(traffic(turns_per_session=1, system_prompt_tokens=0), 2000, 10.0, 1)
    assert len(workload.piece_chain) == 2000 and workload.piece_chain.max() < 0
    assert workload.info.infinite_cache_hit_rate_tokens == 0.0
    assert not workload.info.generated_known


@pytest.mark.parametrize(
    ("changes", "requests", "rate", "words"),
    [
        ({"num_sessions": 10}, 41, 1.0, "num_requests is 41; allowed: up to num_sessions x turns_per_session = 40"),
        ({}, 0, 1.0, "num_requests is 0"),
        ({}, 10, 0.0, "arrival rate is 0 requests"),
        ({}, 10, float("nan"), "arrival rate is nan"),
        ({"prompt_tokens_min": 9}, 10, 1.0, "prompt_tokens_min is 9 and prompt_tokens_max None"),
        ({"prompt_tokens_min": 9, "prompt_tokens_max": 8}, 10, 1.0, "min <= max"),
        ({"history_tokens_mean": 9000.0}, 400, 1.0, "history_tokens_mean is 9000; allowed: up to"),
        ({"system_prompt_tokens": 2**31}, 10, 1.0, "allowed: up to 2,147,483,647"),
    ],
)
def test_numbers_that_cannot_go_together(traffic, changes, requests: int, rate: float, words: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        chat(traffic(**changes), requests, rate, 1)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_million_requests_in_seconds(traffic) -> None:
    workload = chat(traffic(), 1_000_000, 1500.0, 1)
    assert len(workload) == 1_000_000
