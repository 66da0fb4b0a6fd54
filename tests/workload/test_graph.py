"""Graphs as columns: what is refused, what is taken of one, and what copies, cuts and scales make of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvsim.workload.graph import RequestGraph, Waits
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.replicas import part, replicated
from kvsim.workload.workload import Workload

TOKENS = np.array([5, 5, 5, 5], dtype=np.int32)


def waits(*edges: tuple[int, int, float, bool]) -> Waits:
    row, on, delay_s, from_sent = (np.array(column) for column in zip(*edges, strict=True))
    return Waits(row, on, delay_s.astype(np.float64), from_sent.astype(np.bool_))


def told(graph: RequestGraph) -> list[tuple[int, int, float, bool]]:
    return list(zip(*(column.tolist() for column in graph.waits()), strict=True))


def joined(earliest_s: float = 0.0) -> Workload:
    """3 waits for 1 and 2, which 0 spawns."""
    edges = waits((1, 0, 0.5, True), (2, 0, 0.0, False), (3, 1, 1.0, False), (3, 2, 2.0, False))
    alone = Workload.private(np.array([0.0, 1.0, 2.0, 9.0]), TOKENS, TOKENS, WorkloadInfo("test", "synthetic"))
    return replace(alone, graph=RequestGraph.of(edges, 4, np.array([0.0, 0.0, 0.0, earliest_s])))


def test_waits_are_kept_in_rows_whatever_their_order() -> None:
    edges = waits((3, 1, 1.0, False), (2, 0, 0.0, False), (3, 0, 2.0, True))
    graph = RequestGraph.of(edges, 4)
    assert told(graph) == [(2, 0, 0.0, False), (3, 1, 1.0, False), (3, 0, 2.0, True)]
    assert graph.is_root.tolist() == [True, True, False, False]
    after, think_s = graph.as_turns()
    assert after.tolist() == [-1, -1, 0, -1] and think_s.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("edge", "words"),
    [((0, 0, 0.0, False), "earlier"), ((1, 2, 0.0, False), "earlier"), ((2, 1, -1.0, False), "not negative")],
)
def test_what_cannot_be_is_refused(edge: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RequestGraph.of(waits(edge), 4)


def test_a_graph_of_other_requests_is_refused() -> None:
    with pytest.raises(ValueError, match="one of these requests"):
        replace(joined(), graph=RequestGraph.turns(np.array([-1]), np.zeros(1)))


def test_who_is_cut_off_is_waited_for_by_nobody() -> None:
    assert told(joined().limited(2).graph) == [(1, 0, 0.5, True)]
    taken = joined().taken(np.array([1, 3]), np.array([0.0, 8.0]))
    assert told(taken.graph) == [(1, 0, 1.0, False)]


def test_in_another_order_nobody_waits_for_a_later_one() -> None:
    taken = joined().taken(np.array([3, 1, 0, 2]), np.arange(4.0))
    assert told(taken.graph) == [(3, 2, 0.0, False)]
    assert [int(taken.piece_chain[row]) for row in range(4)] == [-4, -2, -1, -3]


def test_copies_wait_for_their_own() -> None:
    found = replicated(joined(earliest_s=8.5), 2, 1)
    edges = told(found.graph)
    namespace = found.piece_chain % 4
    for row, on, _, _ in edges:
        assert on < row and namespace[row] != namespace[on], "of the trace's requests it is another one"
    copies = [row for row, on, delay_s, _ in edges if delay_s == 2.0]
    assert len(copies) in (1, 2)
    for row in copies:
        shift_s = found.arrival_s[row] - 9.0
        assert found.graph.earliest_s[row] == pytest.approx(8.5 + shift_s)


def test_parts_of_copies_wait_within_a_round() -> None:
    found = part(joined(), 1, 3, 11)
    for row, on, delay_s, _ in told(found.graph):
        assert 0 < row - on < 4 and found.arrival_s[row] - found.arrival_s[on] <= 9.0
        assert delay_s in (0.0, 0.5, 1.0, 2.0)


def test_scaling_stretches_the_clock_and_no_delay() -> None:
    found = joined(earliest_s=8.0).scaled(2.0)
    assert found.graph.earliest_s.tolist() == [0.0, 0.0, 0.0, 16.0]
    assert told(found.graph) == told(joined().graph)


def test_users_hold_back_and_coming_sessions_do_not() -> None:
    late_root = replace(joined(), graph=RequestGraph.turns(np.array([-1, 0, -1, -1]), np.zeros(4)))
    assert joined().is_closed and joined().holds_back
    assert late_root.is_closed and not late_root.holds_back
    assert replace(late_root, max_concurrency=1).holds_back
    assert not replace(late_root, graph=None).is_closed
