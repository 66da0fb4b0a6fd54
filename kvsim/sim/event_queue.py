"""A queue of what is to happen, the earliest first: thousands of entries, most of which are due within seconds.

A calendar queue of slots of fixed width; see Brown, "Calendar queues: a fast O(1) priority queue implementation for
the simulation event set problem", Communications of the ACM 31(10), 1988. With one heap of ten thousand sleepers,
walking it and comparing entries was a seventh of all time.
"""

from __future__ import annotations

from bisect import insort
from heapq import heappop, heappush
from typing import Any, Final

_SLOTS_PER_S: Final = 64
_MOST_PASSED: Final = 1024
"""Entries behind us in the present slot that are kept at most."""


class EventQueue:
    """Tuples ``(time_s, ..., what)`` in their order; two entries differ in a field before the last."""

    __slots__ = ("_due", "_due_slot", "_next", "_slots", "_waiting")

    def __init__(self) -> None:
        self._due: list[Any] = []
        """The entries of the present slot in order; before ``_next`` they lie behind us."""
        self._next = 0
        self._due_slot = -1
        """The present slot; nothing waits in it or in an earlier one."""
        self._slots: dict[int, list[Any]] = {}
        """Later entries by slot, sorted when it comes up."""
        self._waiting: list[int] = []
        """A heap of the slots that have later entries."""

    def add(self, time_s: float, entry: Any) -> None:
        """Put ``entry`` in, which begins with ``time_s``: seconds, not before the time of what was popped last."""
        slot = int(time_s * _SLOTS_PER_S)
        if slot <= self._due_slot:
            insort(self._due, entry, self._next)
            return
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = [entry]
            heappush(self._waiting, slot)
        else:
            entries.append(entry)

    def pop(self) -> Any:
        """Take the first entry out; ``None`` where there is none."""
        if self._next == len(self._due) and not self._turn_to_next():
            return None
        return self._take()

    def pop_until(self, time_s: float) -> Any:
        """Take the first entry out; ``None`` where there is none, or its time is later than ``time_s``."""
        if self._next == len(self._due):
            if not self._waiting or self._waiting[0] > int(time_s * _SLOTS_PER_S):
                return None
            self._turn_to_next()
        first_s: float = self._due[self._next][0]
        return None if first_s > time_s else self._take()

    def first(self) -> Any:
        """The first entry, which stays; ``None`` where there is none."""
        if self._next < len(self._due):
            return self._due[self._next]
        return min(self._slots[self._waiting[0]]) if self._waiting else None

    def _take(self) -> Any:
        entry = self._due[self._next]
        self._next += 1
        if self._next > _MOST_PASSED:
            del self._due[: self._next]
            self._next = 0
        return entry

    def _turn_to_next(self) -> bool:
        """Go on to the next slot that has entries; returns whether there is one."""
        if not self._waiting:
            return False
        self._due_slot = heappop(self._waiting)
        self._due = self._slots.pop(self._due_slot)
        if len(self._due) > 1:
            self._due.sort()
        self._next = 0
        return True
