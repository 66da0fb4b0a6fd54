"""Sessions over shared prompts: stationary, each turn behind the ones before, and the same for the same seed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kvsim.config import load_config
from kvsim.errors import WorkloadError
from kvsim.workload.synthetic.sessions import sessions

TRAFFIC = load_config().config.trace


def made(num: int = 4000, rate_per_s: float = 10.0, seed: int = 3, **changes: object):
    return sessions(TRAFFIC.model_copy(update=changes), "trace", num, rate_per_s, seed)


def test_the_rate_is_that_asked_for_from_the_first_second_on() -> None:
    found = made()
    assert len(found) == 4000
    halves = [int((found.arrival_s < found.span_s / 2).sum()), int((found.arrival_s >= found.span_s / 2).sum())]
    assert found.mean_rate_per_s == pytest.approx(10.0, rel=0.08)
    assert halves[0] == pytest.approx(halves[1], rel=0.08)


def test_a_turn_carries_all_that_was_said() -> None:
    found = made(400, 5.0)
    by_session: dict[int, list[int]] = {}
    for request in found:
        by_session.setdefault(request.session_id, []).append(request.request_id)
    seen = 0
    for rows in by_session.values():
        for before, after in pairwise(rows):
            first, second = found.request(before), found.request(after)
            assert second.pieces[: len(first.pieces)] == first.pieces
            assert second.pieces[len(first.pieces)] == (first.output_chain, first.output_tokens)
            seen += 1
    assert seen > 50


def test_the_same_seed_gives_the_same_requests() -> None:
    one, same, other = made(200), made(200), made(200, seed=4)
    assert np.array_equal(one.arrival_s, same.arrival_s)
    assert np.array_equal(one.piece_chain, same.piece_chain)
    assert not np.array_equal(one.arrival_s, other.arrival_s)


def test_numbers_that_cannot_go_together() -> None:
    with pytest.raises(WorkloadError, match=r"trace: 100 requests are more than num_sessions x turns_per_session = 8"):
        made(100, num_sessions=2)
    with pytest.raises(WorkloadError, match=r"trace\.num_rag_chunks is 9; allowed: up to num_shared_docs = 5"):
        made(100, num_rag_chunks=9, num_shared_docs=5)
