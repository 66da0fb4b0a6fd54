"""Copies and stretching: a trace reaches a rate without ever being squeezed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.config import derived, load_config
from kvsim.config.effect import without_effect
from kvsim.errors import WorkloadError
from kvsim.workload.reading import AS_IT_STANDS, Reading
from kvsim.workload.synthetic.agent import agent
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.synthetic.sessions import sessions
from kvsim.workload.traffic import ChatTraffic, TraceSource, TraceTraffic


@pytest.fixture
def source(tmp_path: Path):
    """A trace of 401 requests, one a second."""
    path = tmp_path / "trace.jsonl"
    lines = [f'{{"timestamp": {1000 * i}, "input_length": 100, "output_length": {1 + i % 7}}}' for i in range(401)]
    path.write_text("\n".join(lines))

    def make(limit: int | None = None) -> TraceSource:
        return TraceSource(path, Reading("generic", limit, "ms"))

    return make


def test_own_rate(source):
    own = TraceTraffic(source(), None, 1).own()
    assert len(own) == 401
    assert own.arrival_s.tolist() == [float(i) for i in range(401)]
    assert len(TraceTraffic(source(50), None, 1).own()) == 50


def test_own_rate_times_replicas(source):
    tripled = TraceTraffic(source(), 3, 1).own()
    assert len(tripled) == 3 * 401
    assert tripled.mean_rate_per_s == pytest.approx(3.0, rel=0.01)
    assert len(TraceTraffic(source(100), 3, 1).own()) == 100


@pytest.mark.parametrize(
    ("rate_per_s", "copies"), [(0.25, 1), (1.0, 1), (1.01, 2), (1.5, 2), (2.0, 2), (2.3, 3), (7.2, 8)]
)
def test_fewest_copies_stretched_to_the_rate(source, rate_per_s: float, copies: int):
    traffic = TraceTraffic(source(), None, 1)
    found = traffic.at_rate(rate_per_s)
    assert traffic.copies_at(rate_per_s) == copies
    assert len(found) == 401 * copies == traffic.requests_at(rate_per_s)
    assert found.mean_rate_per_s == pytest.approx(rate_per_s, rel=1e-9)
    # Never squeezed: the gaps of the first copy are at least its own, but for rounding.
    assert found.span_s >= 400 * (1 - 0.005)


def test_one_copy_that_is_too_fast_is_stretched(source):
    slow = TraceTraffic(source(), None, 1).at_rate(0.1)
    assert np.diff(slow.arrival_s).min() == pytest.approx(10.0)


def test_replicas_asked_for_are_kept_when_they_suffice(source):
    assert len(TraceTraffic(source(), 5, 1).at_rate(2.0)) == 5 * 401


def test_replicas_that_do_not_reach_the_rate(source):
    with pytest.raises(WorkloadError, match=r"workload replicas is 2: .* asks for 3.5; allowed: 4 or more"):
        TraceTraffic(source(), 2, 1).at_rate(3.5)


@pytest.mark.parametrize(("rate_per_s", "copies"), [(0.1, 5), (5.0, 5), (7.2, 8)])
def test_what_is_made_of_a_trace_has_the_replicas_asked_for(source, rate_per_s: float, copies: int):
    assert TraceTraffic(source(), 5, 1).copies_at(rate_per_s) == copies


@pytest.mark.parametrize("replicas", [0, -1])
def test_replicas_below_one(source, replicas: int):
    with pytest.raises(WorkloadError, match=f"workload replicas is {replicas}; allowed: 1 or more"):
        TraceTraffic(source(), replicas, 1)


def test_limit_applies_to_the_merged_stream(source):
    found = TraceTraffic(source(120), None, 1).at_rate(2.5)
    assert len(found) == 120
    assert found.mean_rate_per_s == pytest.approx(2.5)
    assert found.span_s < 60


def rows(path: Path, count: int, line: Callable[[int], str]) -> Path:
    path.write_text("".join(line(at) for at in range(count)))
    return path


def told(at: int, ms: float, tokens: int = 0, answer: int = 9) -> str:
    prompt = tokens or 100 + at % 7
    ids = [0, *range(1000 * at, 1000 * at + (prompt - 1) // 512)]
    return f'{{"timestamp": {ms}, "input_length": {prompt}, "output_length": {answer}, "hash_ids": {ids}}}\n'


READINGS: dict[str, tuple[dict[str, Any], Callable[[int], str], Callable[[int], str]]] = {
    "limit": (
        {"limit": 60},
        lambda at: told(at, 1000 * at) if at < 60 else told(at, 1000 * at, 5000, 900),
        lambda at: told(at, 1000 * at),
    ),
    "arrival_scale": ({"arrival_scale": 0.5}, lambda at: told(at, 1000 * at), lambda at: told(at, 500 * at)),
    "include_failed": (
        {"include_failed": True},
        lambda at: told(at, 1000 * at, answer=9 * (at % 3 > 0)),
        lambda at: told(at, 1000 * at, answer=9 if at % 3 else 1),
    ),
    "dequantise": (
        {"dequantise": True},
        lambda at: told(at, 1000 * (at // 4)),
        lambda at: told(at, 250 * at),
    ),
    "time_unit": ({"time_unit": "us"}, lambda at: told(at, 1_000_000 * at), lambda at: told(at, 1000 * at)),
}


@pytest.mark.parametrize("which", READINGS)
def test_all_that_is_made_of_a_trace_is_made_of_what_the_flags_leave_of_it(tmp_path: Path, which: str) -> None:
    """A file as flags read it is the file that says so itself: for the run, the pilots and the parts of studies."""
    reading, given, rewritten = READINGS[which]
    as_it_stands = Reading("mooncake", None, "ms")
    plain = TraceSource(tmp_path / "plain", as_it_stands)
    flagged = TraceSource(
        rows(tmp_path / "flagged", 100 if which == "limit" else 60, given), replace(as_it_stands, **reading)
    )
    rows(tmp_path / "plain", 60, rewritten)
    one, other = TraceTraffic(flagged, None, 1), TraceTraffic(plain, None, 1)
    assert one.most_requests == other.most_requests == 60
    assert one.copies_at(5.0) == other.copies_at(5.0)
    for made in (
        lambda traffic: traffic.own(),
        lambda traffic: traffic.population(),
        lambda traffic: traffic.sample(3.0, 50, None, 5),
        lambda traffic: traffic.part(3.0, 500, None, 5),
        lambda traffic: traffic.at_rate(0.3),
    ):
        first, second = made(one), made(other)
        assert first.arrival_s == pytest.approx(second.arrival_s, rel=1e-9, abs=1e-9)
        for column in ("prompt_tokens", "output_tokens", "piece_offsets", "piece_chain", "piece_tokens"):
            assert np.array_equal(getattr(first, column), getattr(second, column)), column


def test_a_trace_without_span_has_no_rate(tmp_path: Path):
    path = tmp_path / "burst.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 9, "output_length": 2}\n' * 3)
    with pytest.raises(WorkloadError, match="all 3 requests arrive at once"):
        TraceTraffic(TraceSource(path, Reading("generic", None, "s")), None, 1).at_rate(1.0)


def test_same_seed_same_copies(source):
    first, second = (TraceTraffic(source(), None, 7).at_rate(3.0).arrival_s for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, TraceTraffic(source(), None, 8).at_rate(3.0).arrival_s)


def test_chat_is_drawn_at_any_rate():
    traffic = ChatTraffic(load_config(preset="smoke").config)
    found = traffic.at_rate(4.0, 300)
    assert len(found) == 300
    assert found.mean_rate_per_s == pytest.approx(4.0, rel=0.2)
    assert traffic.copies_at(4.0) is None


def test_chat_samples_stay_within_the_sessions():
    traffic = ChatTraffic(load_config(sets=["pd_trace.num_sessions=10"]).config)
    assert traffic.most_requests == 40
    assert len(traffic.sample(2.0, 500, None, 3)) == 40
    with pytest.raises(WorkloadError, match="num_sessions x turns_per_session = 40"):
        traffic.at_rate(2.0, 41)


def test_rag_traffic_is_driven_at_a_load() -> None:
    sets = ["pd_trace.kind=rag", "pd_trace.num_shared_docs=20", "pd_trace.arrivals=on_off"]
    traffic = ChatTraffic(load_config(sets=sets).config)
    found = traffic.at_rate(20.0, 3000)
    assert found.info.source == "synthetic RAG" and len(found) == 3000
    assert found.mean_rate_per_s == pytest.approx(20.0, rel=0.3)
    assert 0.2 < found.info.infinite_cache_hit_rate_tokens < 1
    assert without_effect(load_config(sets=sets).config, "pd") == []
    assert without_effect(load_config(sets=sets[1:]).config, "pd") == ["pd_trace.arrivals", "pd_trace.num_shared_docs"]


def test_answers_are_taken_to_last_as_configured(json_lines):
    """Before anything is simulated: a turn that follows an answer, of a file or drawn."""
    rows = [
        {"session_id": "a", "timestamp": 0, "input_length": 600, "output_length": 50, "hash_ids": [1, 2]},
        {"session_id": "a", "delay": 500, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2, 4]},
    ]
    source = TraceSource(json_lines(rows), AS_IT_STANDS)
    pace_s = derived.answer_s_per_token(load_config(sets=["load.assumed_tpot_ms=100"]).config)
    found = [TraceTraffic(source, None, 1, pace).own() for pace in (None, pace_s)]
    assert [own.arrival_s.tolist() for own in found] == [[0.0, 50 * 0.02 + 0.5], [0.0, 50 * 0.1 + 0.5]]
    assert "answers last 100 ms a token" in " ".join(found[1].info.notes)


def test_drawn_turns_wait_for_answers_as_configured():
    """An agent's n turns take n - 1 answers; only those last longer, all else is drawn alike."""
    agents = load_config().config.agent_trace.model_copy(update={"turns_min": 4, "turns_max": 4})
    slow, fast = (agent(agents, 1, 1.0, 1, answer_s_per_token=pace).arrival_s for pace in (0.5, 0.25))
    assert (slow - fast).tolist() == pytest.approx([n * agents.reasoning_tokens * 0.25 for n in range(4)])

    def chats(pace_s: float | None) -> list[float]:
        return chat(load_config().config.pd_trace, 50, 0.1, 1, 100, pace_s).arrival_s.tolist()

    assert chats(None) == chats(0.02) != chats(0.2)
    section = load_config().config.trace
    drawn = [sessions(section, "trace", 50, 1.0, 1, pace).arrival_s.tolist() for pace in (None, 0.02, 0.2)]
    assert drawn[0] == drawn[1] != drawn[2]
