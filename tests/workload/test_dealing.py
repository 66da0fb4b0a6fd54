"""Requests dealt to cells: sessions in turn, and whoever waits for one another together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from builders import Row, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.workload.dealing import dealt
from kvsim.workload.graph import RequestGraph


def of_sessions(sessions: list[int]) -> np.ndarray:
    return workload([Row(float(i), 4, 1, session_id=session) for i, session in enumerate(sessions)])


def test_sessions_and_single_requests_take_turns_in_the_order_in_which_they_begin() -> None:
    assert dealt(of_sessions([7, -1, 7, 3, -1, 3, 9]), 3).tolist() == [0, 1, 0, 2, 0, 2, 1]


def test_who_waits_for_another_goes_where_that_one_goes() -> None:
    served = of_sessions([1, 2, 3, 2, 4])
    waits = RequestGraph.turns(np.array([-1, -1, 0, -1, 3]), np.zeros(5))
    assert dealt(served, 2).tolist() == [0, 1, 0, 1, 1]
    assert dealt(replace(served, graph=waits), 2).tolist() == [0, 1, 0, 1, 1]
    assert dealt(replace(served, graph=waits), 3).tolist() == [0, 1, 0, 1, 1], "three sessions and two of them tied"
    assert dealt(served, 3).tolist() == [0, 1, 2, 1, 0]


@given(st.lists(st.integers(-1, 6), max_size=40), st.integers(1, 5))
def test_against_a_gateway_that_writes_down_whom_it_sent_where(sessions: list[int], cells: int) -> None:
    at: dict[int, int] = {}
    turn, expected = 0, []
    for session in sessions:
        if session in at:
            expected.append(at[session])
            continue
        expected.append(turn % cells)
        if session >= 0:
            at[session] = turn % cells
        turn += 1
    assert dealt(of_sessions(sessions), cells).tolist() == expected if sessions else True
