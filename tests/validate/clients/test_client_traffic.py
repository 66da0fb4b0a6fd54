"""When clients send, and what their prompts have in common."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.validate.clients.traffic import EQUAL, PREAMBLE_S, SharedPrompts, Traffic

OPEN = Traffic(requests=400, rate_per_s=8.0, prompt_tokens=200.0, output_tokens=62.4)
SHARED = SharedPrompts(groups=3, per_group=2, head_tokens=150)


def gaps(traffic: Traffic) -> np.ndarray:
    return np.diff(traffic.workload("test", 1).arrival_s, prepend=0.0)


@given(st.integers(1, 500), st.floats(0.1, 200), st.integers(0, 1000))
def test_scaled_gaps_sum_to_the_duration(count: int, rate: float, seed: int) -> None:
    arrival_s = replace(OPEN, requests=count, rate_per_s=rate, scaled=True).workload("test", seed).arrival_s
    assert len(arrival_s) == count
    assert arrival_s[-1] == pytest.approx(count / rate)


def test_gaps_spread_as_the_client_says() -> None:
    """The coefficient of variation of a gamma distribution is 1 / sqrt(shape)."""
    many = replace(OPEN, requests=40_000)
    for burstiness in (0.25, 1.0, 4.0):
        found = gaps(replace(many, burstiness=burstiness))
        assert found.mean() == pytest.approx(1 / 8, rel=0.05)
        assert found.std() / found.mean() == pytest.approx(burstiness**-0.5, rel=0.05)
    assert np.diff(replace(OPEN, burstiness=EQUAL).workload("test", 1).arrival_s) == pytest.approx(1 / 8)
    assert not replace(OPEN, rate_per_s=math.inf).workload("test", 1).arrival_s.any()


def test_prompts_come_in_turn_and_groups_share_their_heads() -> None:
    pieces = [request.pieces for request in replace(OPEN, shared=SHARED).workload("test", 1)]
    assert len(set(pieces[:6])) == 6
    assert pieces[6:] == pieces[:-6]
    assert {tokens for path in pieces for _, tokens in path[:1]} == {150}
    heads = [path[0][0] for path in pieces[:6]]
    assert sorted(heads.count(head) for head in set(heads)) == [2, 2, 2]
    assert {sum(tokens for _, tokens in path) for path in pieces} == {200}


@pytest.mark.parametrize("head", [0, 199, 200, 5000])
def test_a_head_is_never_all_of_a_prompt(head: int) -> None:
    requests = replace(OPEN, requests=12, shared=replace(SHARED, head_tokens=head)).workload("test", 1)
    pieces = [request.pieces for request in requests]
    assert len(set(pieces)) == 6
    assert {sum(tokens for _, tokens in path) for path in pieces} == {200}


def test_a_later_stage_finds_the_prompts_of_the_first() -> None:
    later = replace(OPEN, shared=replace(SHARED, sent_before=True))
    assert (later.preamble, replace(OPEN, shared=SHARED).preamble) == (6, 0)
    requests = list(later.workload("test", 1))
    assert len(requests) == 406
    assert len({request.pieces for request in requests[:6]}) == 6
    assert requests[6].arrival_s > requests[5].arrival_s == 5 * PREAMBLE_S
    assert [request.pieces for request in requests[6:12]] == [request.pieces for request in requests[:6]]


def test_lengths_have_the_mean() -> None:
    outputs = OPEN.workload("test", 1).output_tokens
    assert set(outputs) == {62, 63}
    assert outputs.mean() == pytest.approx(62.4, abs=0.01)
