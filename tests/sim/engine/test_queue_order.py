"""Where in the queue a request is put: requests are (number, arrival, priority), and the log is numbers."""

from __future__ import annotations

from collections import deque

import pytest

from kvsim.sim.engine.queue_order import insert_as_waited, insert_by_priority
from kvsim.sim.engine.sequence import RequestState, Sequence, block_path
from kvsim.workload.request import Request


def sequence(number: int, arrival_s: float, priority: int = 0, resumed: bool = False) -> Sequence:
    request = Request(
        number, arrival_s, 4, 1, -1, pieces=((-1 - number, 4),), output_chain=-1 - number, priority=priority
    )
    found = Sequence(RequestState(request, block_path(request, 4), 1), 4, 1)
    found.resumed = resumed
    return found


def numbers(waiting: deque[Sequence]) -> list[int]:
    return [one.state.request.request_id for one in waiting]


def test_the_least_priority_is_first_and_of_one_priority_who_came_first() -> None:
    waiting: deque[Sequence] = deque()
    for number, arrival_s, priority in [(0, 3.0, 1), (1, 1.0, 1), (2, 2.0, 0), (3, 1.0, 1), (4, 9.0, -1)]:
        insert_by_priority(waiting, sequence(number, arrival_s, priority))
    assert numbers(waiting) == [4, 2, 1, 3, 0]


@pytest.mark.parametrize(("has_priorities", "place"), [(False, 2), (True, 0)])
def test_who_stood_aside_comes_back_behind_the_preempted_and_those_before_it(has_priorities: bool, place: int) -> None:
    waiting = deque([sequence(0, 5.0, 1, resumed=True), sequence(1, 1.0, 1), sequence(2, 3.0, 1)])
    insert_as_waited(waiting, sequence(3, 2.0, 0), has_priorities)
    assert numbers(waiting).index(3) == place
