from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.errors import WorkloadError
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.read import read_trace
from kvsim.workload.replicas import _Clock, part, replicated
from kvsim.workload.workload import Workload


def session_trace(arrival_s: list[float]) -> Workload:
    """One session whose prompts grow on chain 0, each with a private end."""
    count = len(arrival_s)
    grown = np.arange(1, count + 1, dtype=np.int32)
    return Workload(
        arrival_s=np.array(arrival_s),
        prompt_tokens=grown + 2,
        output_tokens=np.ones(count, dtype=np.int32),
        session_id=np.zeros(count, dtype=np.int64),
        output_chain=-1 - np.arange(count),
        piece_offsets=2 * np.arange(count + 1),
        piece_chain=np.stack((np.zeros(count, dtype=np.int64), -1 - np.arange(count)), axis=1).ravel(),
        piece_tokens=np.stack((grown, np.full(count, 2)), axis=1).ravel().astype(np.int32),
        info=WorkloadInfo("test", "synthetic"),
    )


def test_one_copy_is_the_trace_itself() -> None:
    trace = session_trace([0.0, 1.0, 5.0])
    assert list(replicated(trace, 1, seed=3)) == list(trace)


def test_copies_share_neither_chains_nor_sessions() -> None:
    trace = session_trace([0.0, 1.0, 2.0, 3.0])
    copies = replicated(trace, 3, seed=1)
    assert len(copies) == 12
    owner: dict[int, int] = {}
    for request in copies:
        for chain, _ in (*request.pieces, (request.output_chain, 0)):
            assert owner.setdefault(chain, request.session_id) == request.session_id
    private = [request.output_chain for request in copies]
    assert len(set(private)) == 12 and max(private) < 0
    # Copy 0 is unshifted; a shifted copy is two namespaces unless its offset cuts nothing off.
    assert 3 <= len({request.session_id for request in copies}) <= 5


def test_nothing_can_hit_its_own_future() -> None:
    """Within a namespace the trace's order holds: the session's prompts only grow."""
    copies = replicated(session_trace([0.0, 1.0, 2.0, 3.0, 7.0]), 20, seed=5)
    longest: dict[int, int] = {}
    for request in copies:
        assert request.prompt_tokens > longest.get(request.session_id, 0)
        longest[request.session_id] = request.prompt_tokens


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1000), min_size=2, max_size=30).map(sorted).filter(lambda times: times[-1] - times[0] > 1e-3),
    st.integers(2, 9),
    st.integers(0, 99),
    st.data(),
)
def test_a_horizon_is_the_earliest_of_all_arrivals(times: list[float], copies: int, seed: int, data) -> None:
    trace = session_trace(times)
    whole = replicated(trace, copies, seed)
    horizon = data.draw(st.integers(1, len(whole)))
    head = replicated(trace, copies, seed, horizon)
    assert len(whole) == copies * len(trace) and len(head) == horizon
    assert head.arrival_s.tolist() == whole.arrival_s[:horizon].tolist()
    assert sorted(whole.prompt_tokens.tolist()) == sorted(trace.prompt_tokens.tolist() * copies)


def test_the_rate_grows_with_the_copies_and_seeds_matter() -> None:
    trace = session_trace(np.sort(np.random.default_rng(0).uniform(0, 100, 500)).tolist())
    copies = replicated(trace, 20, seed=1)
    assert copies.mean_rate_per_s == pytest.approx(20 * trace.mean_rate_per_s, rel=0.02)
    assert list(replicated(trace, 20, seed=1)) == list(copies)
    assert replicated(trace, 20, seed=2).arrival_s.tolist() != copies.arrival_s.tolist()
    # Copy 0 stands as it is.
    assert set(trace.arrival_s - trace.arrival_s[0]) <= set(copies.arrival_s)


def test_mooncake_four_hundred_times(shared_data) -> None:
    trace = read_trace(shared_data / "traces/mooncake_conversation_trace.jsonl")
    copies = replicated(trace, 400, seed=1, horizon_requests=500_000)
    assert len(copies) == 500_000
    # The trace's rate varies over its hour, not so the sum of its shifted copies.
    assert copies.mean_rate_per_s == pytest.approx(400 * trace.mean_rate_per_s, rel=0.03)
    assert "400 time-shifted replicas" in copies.info.notes[-1]


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1000), min_size=2, max_size=20).map(sorted).filter(lambda times: times[-1] - times[0] > 1e-3),
    st.integers(1, 4), st.integers(1, 90), st.integers(0, 99),
)  # fmt: skip
def test_a_part_is_as_long_as_asked_for_and_hits_nothing_of_its_future(
    times: list[float], copies: int, num: int, seed: int
) -> None:
    found = part(session_trace(times), copies, seed, num)
    assert len(found) == num and found.arrival_s[0] == 0
    longest: dict[int, int] = {}
    chains: dict[int, int] = {}
    for request in found:
        assert request.prompt_tokens > longest.get(request.session_id, 0)
        longest[request.session_id] = request.prompt_tokens
        for chain, _ in (*request.pieces, (request.output_chain, 0)):
            assert chains.setdefault(chain, request.session_id) == request.session_id


def test_parts_of_one_copy_differ_by_seed_and_keep_its_rate() -> None:
    trace = session_trace([0.0, 1.0, 5.0, 6.0, 8.0, 9.0])
    starts = {part(trace, 1, seed, 3).prompt_tokens[0] for seed in range(20)}
    assert len(starts) > 3
    assert list(part(trace, 1, 7, 3)) == list(part(trace, 1, 7, 3))
    laid = part(trace, 1, 7, 6000)
    assert laid.mean_rate_per_s == pytest.approx(trace.mean_rate_per_s, rel=0.01)
    counts = np.bincount(laid.prompt_tokens)
    assert counts[3:].tolist() == pytest.approx([1000] * 6, abs=1)


def test_copies_keep_the_priorities_of_requests() -> None:
    trace = replace(session_trace([0.0, 1.0, 5.0]), priority=np.array([7, 8, 9], dtype=np.int32))
    for found in (replicated(trace, 3, seed=1), part(trace, 2, 1, 10)):
        assert found.priority is not None
        assert (found.priority == found.prompt_tokens + 4).all()


def test_parts_of_nothing_are_refused() -> None:
    for times, message in (([1.0, 1.0], "arrive at once"), ([1.0], "a single request has no rate")):
        with pytest.raises(WorkloadError, match=message):
            part(session_trace(times), 1, 1, 5)


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1000), min_size=2, max_size=8).map(sorted).filter(lambda times: times[-1] - times[0] > 1e-3),
    st.integers(9, 60),
    st.floats(0, 1),
)
def test_arrivals_are_counted_by_row_as_by_copy(arrival_s: list[float], copies: int, share: float) -> None:
    """More copies than rows are counted by rows."""
    clock = _Clock(np.array(arrival_s) - arrival_s[0], copies, 7)
    until_s = share * clock.period_s
    assert clock._count(until_s) == sum(int(part.sum()) for part in clock.arrived(until_s))


def test_a_few_requests_of_very_many_copies() -> None:
    found = replicated(session_trace([0.0, 604800.0]), 1_000_000, 1, horizon_requests=100)
    assert len(found) == 100
    assert found.mean_rate_per_s == pytest.approx(2e6 / (2 * 604800), rel=0.2)
