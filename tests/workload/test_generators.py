"""Generated traffic: arrivals against their moments, what prompts share against counts by hand, closed loops."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from kvsim.config.schema import AgentTrace
from kvsim.content import content_path
from kvsim.errors import WorkloadError
from kvsim.workload.synthetic.agent import MOST_CONTEXT_TOKENS, SYSTEM_PROMPT_TOKENS, Spawning, agent, agent_graph
from kvsim.workload.synthetic.arrivals import ARRIVALS, arrival_times
from kvsim.workload.synthetic.assembled import Assembly
from kvsim.workload.synthetic.bench import bench
from kvsim.workload.synthetic.rag import rag, zipf_ranks


def agents(**changes: object) -> AgentTrace:
    section = yaml.safe_load(content_path("config.yaml").read_text())["agent_trace"]
    return AgentTrace(**{**section, **changes})


def one_parent_each(workload) -> bool:
    """Whether every shared chain stands behind one and the same path."""
    parent: dict[int, tuple] = {}
    for request in workload:
        for place, (chain, _) in enumerate(request.pieces):
            if chain >= 0 and parent.setdefault(chain, request.pieces[:place]) != request.pieces[:place]:
                return False
    return True


@pytest.mark.parametrize("kind", ARRIVALS)
def test_arrivals_have_the_rate_asked_for(kind: str) -> None:
    rate_per_s = 0.1 if kind == "diurnal" else 8.0  # over six days, where it goes by the day
    times_s = arrival_times(kind, 50_000, rate_per_s, np.random.default_rng(1))
    assert (np.diff(times_s) >= 0).all()
    assert len(times_s) / times_s[-1] == pytest.approx(rate_per_s, rel=0.05)
    again = arrival_times(kind, 50_000, rate_per_s, np.random.default_rng(1))
    np.testing.assert_array_equal(times_s, again)
    assert not arrival_times(kind, 5, float("inf"), np.random.default_rng(1)).any()


@pytest.mark.parametrize(
    ("kind", "options", "cv"), [("constant", {}, 0), ("poisson", {}, 1), ("gamma", {"cv": 3.0}, 3)]
)
def test_gaps_vary_as_asked_for(kind: str, options: dict, cv: float) -> None:
    gaps_s = np.diff(arrival_times(kind, 100_000, 5.0, np.random.default_rng(2), **options))
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(cv, rel=0.05, abs=1e-6)


def test_on_off_arrives_in_the_first_quarter_of_each_period() -> None:
    times_s = arrival_times("on_off", 20_000, 10.0, np.random.default_rng(3), period_s=8.0)
    assert (times_s % 8.0 <= 2.0).all()
    counts = np.bincount((times_s // 2.0).astype(int))
    assert counts[::4].mean() == pytest.approx(80, rel=0.05) and counts[1::4].sum() == 0
    assert counts.var() / counts.mean() > 20


def test_bad_arrivals_are_one_line() -> None:
    with pytest.raises(WorkloadError, match="did you mean 'poisson'"):
        arrival_times("poison", 5, 1.0, np.random.default_rng(1))
    with pytest.raises(WorkloadError, match="arrival rate is 0"):
        arrival_times("poisson", 5, 0.0, np.random.default_rng(1))


def test_zipf_s_law_without_repetition() -> None:
    ranks = zipf_ranks(50, 1.2, 3, 60_000, np.random.default_rng(4))
    assert all(len(set(row)) == 3 for row in ranks[:500].tolist())
    weights = np.arange(1, 51) ** -1.2
    first = np.bincount(ranks[:, 0], minlength=50) / len(ranks)
    np.testing.assert_allclose(first[:10], (weights / weights.sum())[:10], rtol=0.12)


def test_documents_in_another_order_are_another_prefix(traffic) -> None:
    found = rag(traffic(num_shared_docs=2, num_rag_chunks=2, num_system_prompts=1, doc_zipf_alpha=0.0), 200, 5.0, 1)
    assert one_parent_each(found)
    paths = {tuple(chain for chain, _ in request.pieces[:-1]) for request in found}
    assert len(paths) == 2 and len({path[1] for path in paths}) == 2
    assert {path[0] for path in paths} == {found.request(0).pieces[0][0]}


def test_more_documents_than_there_are_is_an_error(traffic) -> None:
    with pytest.raises(WorkloadError, match="num_rag_chunks is 3; allowed: up to num_shared_docs = 2"):
        rag(traffic(num_shared_docs=2, num_rag_chunks=3), 5, 1.0, 1)


def test_an_agent_repeats_all_but_its_last_result() -> None:
    traffic = agents(
        turns_min=3, turns_max=3, tool_result_min_tokens=100, tool_result_max_tokens=100, reasoning_tokens=50,
        tool_def_tokens=200, num_tool_sets=1, num_system_prompts=1,
    )  # fmt: skip
    found = agent(traffic, 1, 1.0, 1)
    head = SYSTEM_PROMPT_TOKENS + 200
    assert found.prompt_tokens.tolist() == [head + 100, head + 250, head + 400]
    assert found.output_tokens.tolist() == [50] * 3 and one_parent_each(found) and found.info.generated_known
    # The second turn repeats the first prompt and its answer, the third the second's.
    assert found.info.infinite_cache_hit_rate_tokens == pytest.approx((head + 150 + head + 300) / (3 * head + 750))
    assert found.graph is None


def test_closed_agents_wait_for_their_answers() -> None:
    found = agent(agents(), 12, 0.5, 3, closed=True)
    assert one_parent_each(found)
    after, think_s = found.graph.as_turns()
    last = dict.fromkeys(found.session_id.tolist(), -1)
    for row, session in enumerate(found.session_id.tolist()):
        assert after[row] == last[session]
        last[session] = row
    turns = np.bincount(found.session_id)
    assert turns.max() <= 50 and (found.prompt_tokens + found.output_tokens).max() <= MOST_CONTEXT_TOKENS
    waits = think_s[after >= 0]
    assert waits.mean() == pytest.approx(2.0, rel=0.2)


def test_agents_wait_for_all_of_their_sub_agents() -> None:
    """Every turn but the last spawns two, each of which has two turns or more."""
    traffic = agents(
        turns_min=3, turns_max=3, tool_result_min_tokens=10, tool_result_max_tokens=20, reasoning_tokens=50
    )
    found = agent_graph(traffic, 300, 1e-3, 5, Spawning(1.0, 2))
    assert one_parent_each(found) and len(found) == 300
    waits, counts = found.graph.waits(), np.diff(found.graph.offsets)
    joins = np.flatnonzero(counts == 3)
    assert len(joins) > 20 and counts.max() == 3
    for row in joins.tolist():
        edges = slice(found.graph.offsets[row], found.graph.offsets[row + 1])
        sessions = found.session_id[found.graph.on[edges]]
        assert (sessions == found.session_id[row]).sum() == 1 and len(set(sessions.tolist())) == 3
        assert not found.graph.delay_s[edges].any()
    for row, on in zip(waits.row.tolist(), waits.on.tolist(), strict=True):
        assert found.arrival_s[row] >= found.arrival_s[on] + 50 * 0.02 - 1e-9
    assert not waits.from_sent.any()


def test_agents_come_at_the_rate_asked_for_from_the_start_on() -> None:
    found = agent_graph(agents(), 3000, 10.0, 5, Spawning(0.1, 3))
    thirds = np.array_split(found.arrival_s, 3)
    rates = [len(part) / (part[-1] - part[0]) for part in thirds]
    assert rates == pytest.approx([10.0] * 3, rel=0.12)
    again = agent_graph(agents(), 3000, 10.0, 5, Spawning(0.1, 3))
    assert np.array_equal(found.graph.on, again.graph.on) and np.array_equal(found.piece_chain, again.piece_chain)


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": float("inf")}, {"share": 1.5}, {"subagents": 0}])
def test_impossible_agents_are_one_line(wrong: dict) -> None:
    asked = {"rate": 1.0, "share": 0.1, "subagents": 1, **wrong}
    with pytest.raises(WorkloadError, match="allowed"):
        agent_graph(agents(), 5, asked["rate"], 1, Spawning(asked["share"], asked["subagents"]))


def test_a_benchmark_s_lengths_prefix_and_concurrency() -> None:
    found = bench(5000, float("inf"), 1000, 100, 1, range_ratio=0.2, shared_prefix_tokens=64, max_concurrency=32)
    own = found.prompt_tokens - 64
    assert (own.min(), own.max()) == (800, 1200) and own.mean() == pytest.approx(1000, rel=0.01)
    assert (found.output_tokens.min(), found.output_tokens.max()) == (80, 120)
    assert not found.arrival_s.any() and found.max_concurrency == 32 and one_parent_each(found)
    even = bench(10, 2.0, 5, 5, 1, burstiness=float("inf"))
    assert np.diff(even.arrival_s) == pytest.approx([0.5] * 9)
    with pytest.raises(WorkloadError, match="range ratio is 1"):
        bench(5, 1.0, 5, 5, 1, range_ratio=1.0)


def test_an_assembly_is_sorted_and_keeps_who_waits_for_whom() -> None:
    found = Assembly()
    late = found.add(5.0, [("a", 10), (None, 3)], 2)
    first = found.add(1.0, [("a", 10), ("b", 4)], 2, answer="c")
    found.add(3.0, [("a", 10), ("b", 4), ("c", 2), (None, 1)], 2, after=first, think_s=0.5)
    assert (late, first) == (0, 1)
    made = found.workload("test", (), closed=True)
    assert made.arrival_s.tolist() == [1.0, 3.0, 5.0]
    after, think_s = made.graph.as_turns()
    assert after.tolist() == [-1, 0, -1] and think_s.tolist() == [0.0, 0.5, 0.0]
    both = ((0, 10), (1, 4))
    assert [request.pieces for request in made] == [both, (*both, (2, 2), (-2, 1)), ((0, 10), (-3, 3))]
    assert made.output_chain.tolist() == [2, -2, -3]
    assert made.info.infinite_cache_hit_rate_tokens == pytest.approx((16 + 10) / (14 + 17 + 13))


def test_a_day_has_four_times_as_many_requests_at_16_h_as_at_4_h() -> None:
    times_s = arrival_times("diurnal", 200_000, 200_000 / 86_400, np.random.default_rng(3))
    assert np.all(np.diff(times_s) >= 0)
    by_hour = np.bincount((times_s // 3600).astype(int))[:24] / (len(times_s) / 24)
    hours = np.arange(24) + 0.5
    np.testing.assert_allclose(by_hour, 1 - 0.6 * np.cos(2 * np.pi * (hours - 4) / 24), atol=0.05)
