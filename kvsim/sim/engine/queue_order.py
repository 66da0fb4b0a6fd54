"""In which order requests wait: first come, first served, or by priority."""

from __future__ import annotations

from collections import deque

from kvsim.sim.engine.sequence import Sequence


def by_priority(sequence: Sequence) -> tuple[int, float, int]:
    """Key of vLLM's ``priority`` scheduling: who has the least is admitted first, and preempted last."""
    request = sequence.state.request
    return request.priority, request.arrival_s, request.request_id


def by_arrival(sequence: Sequence) -> tuple[float, int]:
    """Key of who came first."""
    request = sequence.state.request
    return request.arrival_s, request.request_id


def insert_by_priority(waiting: deque[Sequence], sequence: Sequence, first: int = 0) -> None:
    """Queue a request where its priority puts it, not before the place ``first``."""
    key = by_priority(sequence)
    place = len(waiting)
    while place > first and by_priority(waiting[place - 1]) > key:
        place -= 1
    waiting.insert(place, sequence)


def insert_as_waited(waiting: deque[Sequence], sequence: Sequence, has_priorities: bool) -> None:
    """Queue a request that stood aside before it had begun, where it would be had it waited."""
    place = 0
    for other in waiting:
        if _comes_after(other, sequence, has_priorities):
            break
        place += 1
    waiting.insert(place, sequence)


def insert_loaded(
    waiting: deque[Sequence], sequence: Sequence, num_loaded: int, loads: dict[Sequence, None] | None
) -> None:
    """Queue a request whose load has come among the ``num_loaded`` at the head of the queue whose loads have: in the
    order of ``loads``, or by priority.
    """
    place = 0
    if loads is None:
        key = by_priority(sequence)
        while place < num_loaded and by_priority(waiting[place]) <= key:
            place += 1
    else:
        for other in loads:
            if other is sequence:
                break
            if place < num_loaded and waiting[place] is other:
                place += 1
    waiting.insert(place, sequence)


def insert_behind(waiting: deque[Sequence], sequence: Sequence, num_loaded: int) -> None:
    """Queue a preempted request before all but those whose loads have come."""
    waiting.insert(num_loaded, sequence)


def _comes_after(other: Sequence, sequence: Sequence, has_priorities: bool) -> bool:
    """Whether one that waits stands behind one that has not begun."""
    if has_priorities:
        return by_priority(other) > by_priority(sequence)
    return not other.resumed and by_arrival(other) > by_arrival(sequence)
