"""Request graphs: a request is sent when all that it waits for is over, to the instant, and none is lost."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from both_ways import random_case, same_both_ways
from builders import Row, by_request, colocated, impatient, plan, served, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.capacity.demand import asked_per_s
from kvsim.record.windows import measured_alike
from kvsim.sim.outcome import outcome
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.graph import RequestGraph, Waits
from kvsim.workload.workload import Workload

SYSTEMS = (UnifiedSystem, PdSystem)


def waits(*edges: tuple[int, int, float, bool]) -> Waits:
    row, on, delay_s, from_sent = (np.array(column) for column in zip(*edges, strict=True))
    return Waits(row, on, delay_s.astype(np.float64), from_sent.astype(np.bool_))


def graphed(
    rows: list[Row], *edges: tuple[int, int, float, bool], earliest_s: dict[int, float] | None = None
) -> Workload:
    earliest = np.zeros(len(rows))
    for row, time_s in (earliest_s or {}).items():
        earliest[row] = time_s
    return replace(workload(rows), graph=RequestGraph.of(waits(*edges), len(rows), earliest))


def test_a_join_waits_for_the_last_of_them() -> None:
    """Every step takes a second: 0 ends at 3, 1 at 6, so 2 may come at max(3 + 1, 6 + 0.5)."""
    rows = [Row(0.0, 16, 3), Row(0.0, 16, 6), Row(9.0, 16, 1)]
    found = by_request(served(UnifiedSystem, colocated(plan()), graphed(rows, (2, 0, 1.0, False), (2, 1, 0.5, False))))
    assert found["finish_s"].tolist()[:2] == [3.0, 6.0]
    assert found["arrival_s"].tolist() == [0.0, 0.0, 6.5]


def test_each_wait_has_a_delay_of_its_own() -> None:
    rows = [Row(0.0, 16, 3), Row(0.0, 16, 6), Row(9.0, 16, 1)]
    found = by_request(served(UnifiedSystem, colocated(plan()), graphed(rows, (2, 0, 7.0, False), (2, 1, 0.5, False))))
    assert found["arrival_s"].tolist() == [0.0, 0.0, 10.0]


def test_a_spawn_counts_from_when_the_other_was_sent() -> None:
    rows = [Row(1.0, 16, 5), Row(2.0, 16, 1), Row(2.0, 16, 1)]
    found = by_request(served(UnifiedSystem, colocated(plan()), graphed(rows, (1, 0, 0.0, True), (2, 0, 2.0, True))))
    assert found["arrival_s"].tolist() == [1.0, 1.0, 3.0]


def test_nobody_is_sent_before_it_may_be() -> None:
    rows = [Row(0.0, 16, 3), Row(5.0, 16, 1), Row(5.0, 16, 1)]
    edges = (1, 0, 0.0, False), (2, 0, 0.0, False)
    found = by_request(served(UnifiedSystem, colocated(plan()), graphed(rows, *edges, earliest_s={1: 8.0, 2: 2.0})))
    assert found["arrival_s"].tolist() == [0.0, 8.0, 3.0]


def test_who_waits_for_one_that_fails_goes_on_and_is_counted() -> None:
    """0 fits nowhere and ends at once; 2 waits for it and for 1, which ends at 2."""
    rows = [Row(0.0, 10**6, 3), Row(0.0, 16, 2), Row(1.0, 16, 1), Row(1.0, 16, 1)]
    asked = graphed(rows, (2, 0, 9.0, False), (2, 1, 0.0, False), (3, 1, 0.0, False))
    system = served(UnifiedSystem, colocated(plan()), asked)
    assert (system.counts.arrived, system.counts.failed, system.counts.completed) == (4, 1, 3)
    assert by_request(system)["arrival_s"].tolist() == [0.0, 9.0, 2.0]
    assert "1 requests were sent though one that they waited for had failed" in system.notes


def test_who_waits_for_one_that_is_given_up_goes_on() -> None:
    rows = [Row(0.0, 16, 50), Row(1.0, 16, 1)]
    system = impatient(UnifiedSystem(colocated(plan()), graphed(rows, (1, 0, 1.0, False)), 1), 4.0)
    system.run()
    assert system.gave_up == 1 and (system.counts.failed, system.counts.completed) == (1, 1)
    assert system.requests.table()["arrival_s"].tolist() == [5.0]
    assert "1 requests were sent though one that they waited for had failed" in system.notes


def random_graph(rng: Random, count: int) -> RequestGraph:
    edges = [(0, 0, 0.0, False)][:0]
    for row in range(1, count):
        for on in rng.sample(range(row), rng.choice([0, 1, 1, 2, 3]) if row > 3 else rng.randint(0, 1)):
            edges.append((row, on, rng.choice([0.0, 0.0, rng.uniform(0, 20)]), rng.random() < 0.25))
    earliest = np.array([rng.choice([0.0, 0.0, rng.uniform(0, 40)]) for _ in range(count)])
    if not edges:
        return RequestGraph.turns(np.full(count, -1), np.zeros(count))
    return RequestGraph.of(waits(*edges), count, earliest)


@pytest.mark.parametrize("system", SYSTEMS)
@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_every_request_is_sent_once_and_when_its_waits_are_over(system, seed: int) -> None:
    rng = Random(seed)
    found, requests = random_case(rng)
    graph = random_graph(rng, len(requests))
    run = served(system, found, replace(requests, graph=graph))
    assert run.counts.arrived == len(requests) == run.counts.completed + run.counts.failed
    if run.counts.failed:
        return
    table = by_request(run)
    for row in range(len(requests)):
        edges = range(graph.offsets[row], graph.offsets[row + 1])
        over = [
            (table["arrival_s"] if graph.from_sent[e] else table["finish_s"])[graph.on[e]] + graph.delay_s[e]
            for e in edges
        ]
        assert table["arrival_s"][row] == (max(*over, graph.earliest_s[row]) if over else requests.arrival_s[row])
    result = outcome(run, warmup_requests=0, unsteady_factor=0.0)
    assert all(check.ok for check in result.checks)


@pytest.mark.parametrize("system", SYSTEMS)
@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_leaps_like_single_steps(system, seed: int) -> None:
    rng = Random(seed)
    found, requests = random_case(rng)
    asked = replace(requests, graph=random_graph(rng, len(requests)), max_concurrency=rng.choice([None, None, 2]))
    same_both_ways(system, colocated(found) if system is UnifiedSystem else found, asked)


def session_rows(sessions: int, turns: int, every_s: float) -> Workload:
    """Sessions at their own times, whose turns wait for the answer before."""
    rows = sorted(
        (every_s * session + 0.1 * turn, session, turn) for session in range(sessions) for turn in range(turns)
    )
    place = {(session, turn): row for row, (_, session, turn) in enumerate(rows)}
    edges = [(place[s, turn], place[s, turn - 1], 0.0, False) for s in range(sessions) for turn in range(1, turns)]
    return graphed([Row(time_s, 16, 10) for time_s, _, _ in rows], *edges)


def test_sessions_that_keep_coming_can_overload_and_users_cannot() -> None:
    """A session of 30 s every second, where one is served at a time, and the same all at once: users."""
    coming, users = session_rows(60, 3, 1.0), session_rows(60, 3, 1e-3)
    assert coming.is_closed and not coming.holds_back
    assert users.is_closed and users.holds_back
    for asked, overloaded in ((coming, True), (users, False)):
        run = served(UnifiedSystem, colocated(plan(max_num_seqs=1)), asked)
        result = outcome(run, warmup_requests=10, unsteady_factor=1.0)
        rates = {result.name: (asked_per_s(asked, result), 0.1)}
        assert (rates[result.name][0] == pytest.approx(180 / 59.2, rel=0.02)) == overloaded
        (judged,) = measured_alike([result], 1.0, rates)
        assert judged.pace.overloaded == overloaded and result.is_closed == (not overloaded)
