"""What is written is read back, as far as each schema can hold it, whatever the workload."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.workload.graph import RequestGraph
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.read import read_trace
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.workload import Workload
from kvsim.workload.writers import write_trace

PACE_S = assumed_pace_s(None)


@dataclass(frozen=True)
class Holds:
    """What of a workload survives a schema."""

    time_s: float
    """To how many seconds a time is off at most."""
    sessions: bool = False
    block_tokens: int | None = None
    """Common prefixes survive as whole blocks of so many tokens; ``None``: no content."""
    turns: bool = False
    answers: bool = False


SCHEMAS = {
    "azure": Holds(1e-7),
    "burstgpt": Holds(1e-3, sessions=True),
    "burstgpt_v1": Holds(1.0),
    "mooncake": Holds(1e-3, block_tokens=512),
    "splitwise": Holds(1e-6),
    "bailian": Holds(1e-3, sessions=True, block_tokens=16),
    # Delays follow each other, and so do their roundings.
    "aiperf": Holds(1e-5, sessions=True, block_tokens=512, turns=True),
    "sharegpt": Holds(1e-9, block_tokens=16, answers=True),
    "generic": Holds(1e-6, sessions=True),
}


@st.composite
def workloads(draw) -> Workload:
    """Chats over common prompts and lone requests, whose turns may wait for the answer before them."""
    system_tokens = draw(st.lists(st.integers(1, 1300), min_size=1, max_size=2))
    waits = draw(st.booleans())
    count = draw(st.integers(1, 12))
    arrival_s, session, prompt, output, chains, tokens, after, think_s = [], [], [], [], [], [], [], []
    latest: dict[int, int] = {}
    now = 0.0
    for row in range(count):
        who = draw(st.integers(-1, 2))
        own = len(system_tokens) + who if who >= 0 else -1 - row
        system = max(who, 0) % len(system_tokens)
        before = latest.get(who) if who >= 0 else None
        said = tokens[before][1] + output[before] if before is not None else 0
        pause_s = draw(st.floats(0.001, 40))
        # Apart, so that rounding cannot swap two of them.
        now += draw(st.floats(0.01, 3))
        if before is not None:
            now = max(now, arrival_s[before] + output[before] * PACE_S + pause_s, arrival_s[-1] + 0.01)
            after.append(before)
            think_s.append(now - arrival_s[before] - output[before] * PACE_S)
        else:
            after.append(-1)
            think_s.append(0.0)
        if who >= 0:
            latest[who] = row
        arrival_s.append(now)
        session.append(who)
        chains.append((system, own))
        tokens.append((system_tokens[system], said + draw(st.integers(1, 900))))
        prompt.append(sum(tokens[-1]))
        output.append(draw(st.integers(1, 80)))
    return Workload(
        arrival_s=np.array(arrival_s) - arrival_s[0],
        prompt_tokens=np.array(prompt, dtype=np.int32),
        output_tokens=np.array(output, dtype=np.int32),
        session_id=np.array(session, dtype=np.int64),
        output_chain=np.array([own for _, own in chains], dtype=np.int64),
        piece_offsets=2 * np.arange(count + 1),
        piece_chain=np.array(chains, dtype=np.int64).ravel(),
        piece_tokens=np.array(tokens, dtype=np.int32).ravel(),
        info=WorkloadInfo("test", "synthetic"),
        graph=RequestGraph.turns(np.array(after, dtype=np.int64), np.array(think_s)) if waits else None,
    )


def places(workload: Workload, with_answers: bool) -> list[list[tuple[int, int]]]:
    """Chain and place of every token of each prompt, and of its answer."""
    found = []
    for request in workload:
        prompt = [(chain, place) for chain, count in request.pieces for place in range(count)]
        chain, count = request.pieces[-1]
        begin = count if chain == request.output_chain else 0
        answer = [(request.output_chain, begin + place) for place in range(request.output_tokens)]
        found.append(prompt + answer * with_answers)
    return found


def common(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@pytest.mark.parametrize("schema", list(SCHEMAS))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(workload=workloads())
def test_round_trip(tmp_path, schema: str, workload: Workload) -> None:
    holds = SCHEMAS[schema]
    path = tmp_path / "trace.gz"
    lost = write_trace(workload, path, schema)
    read = read_trace(path, schema.removesuffix("_v1"), strict=True)
    assert read.prompt_tokens.tolist() == workload.prompt_tokens.tolist()
    assert read.output_tokens.tolist() == workload.output_tokens.tolist()
    assert np.abs(read.arrival_s - workload.arrival_s).max() <= holds.time_s + 1e-12
    if holds.sessions:
        known = workload.session_id >= 0
        pairs = set(zip(workload.session_id[known].tolist(), read.session_id[known].tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    waiting = workload.graph is not None and bool(len(workload.graph.on))
    if holds.turns and waiting:
        (read_after, read_think_s), (after, think_s) = read.graph.as_turns(), workload.graph.as_turns()
        assert read_after.tolist() == after.tolist()
        np.testing.assert_allclose(read_think_s, think_s, atol=1e-6)
    else:
        assert read.graph is None
    assert any("wait" in sentence for sentence in lost) == (waiting and not holds.turns)
    if holds.block_tokens is not None:
        check_content(workload, read, holds)


def check_content(written: Workload, read: Workload, holds: Holds) -> None:
    """What a prompt has in common with an earlier request is what it had, in whole blocks; never more."""
    size = holds.block_tokens
    prompts, wholes = places(written, False), places(written, holds.answers)
    read_prompts, read_wholes = places(read, False), places(read, holds.answers)
    for row in range(len(written)):
        for earlier in range(row):
            had = common(prompts[row], wholes[earlier])
            has = common(read_prompts[row], read_wholes[earlier])
            assert had // size * size <= has if not holds.answers else True
            assert has <= had
    if holds.answers:
        best = [max((common(prompts[row], wholes[e]) for e in range(row)), default=0) for row in range(len(written))]
        got = [max((common(read_prompts[r], read_wholes[e]) for e in range(r)), default=0) for r in range(len(read))]
        assert all(had // size * size <= has for had, has in zip(best, got, strict=True))


def test_a_wait_outside_the_session_is_said_to_be_lost(tmp_path) -> None:
    tokens = np.array([5, 5, 5], dtype=np.int32)
    alone = Workload.private(np.arange(3.0), tokens, tokens, WorkloadInfo("test", "synthetic"))
    workload = replace(alone, graph=RequestGraph.turns(np.array([-1, 0, -1]), np.array([0.0, 1.0, 0.0])))
    lost = write_trace(workload, tmp_path / "a.jsonl", "aiperf")
    assert lost == (
        "aiperf cannot say that 1 requests wait for answers outside their session: "
        "their times are those of an open loop",
    )
    assert read_trace(tmp_path / "a.jsonl", "aiperf").arrival_s.tolist() == [0.0, 1.0, 2.0]
