"""A queue of what is to happen, the earliest first: thousands of entries, most of which are due within seconds.

A calendar queue of slots of fixed width; see Brown, "Calendar queues: a fast O(1) priority queue implementation for
the simulation event set problem", Communications of the ACM 31(10), 1988. With one heap of ten thousand sleepers,
walking it and comparing entries was a seventh of all time. Slots become narrower where many entries share one, so that
there are few to sort and to search; compiled code does both without making keys of them.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

_SLOTS_PER_S: Final = 64.0
_MOST_SLOTS_PER_S: Final = 65536.0
_NARROWER: Final = 4.0
_MOST_PASSED: Final = 256
"""Entries behind us in the present slot that are kept at most."""
_FEW: Final = 32
"""Up to so many entries are sorted by insertion, and are no reason for narrower slots."""


class Entry:
    """Something that is to happen: at ``time_s``, by ``key`` among those of one time, by ``number`` among equals.

    While it is in a queue, no other entry there may have all three alike, and they must not change.
    """

    __slots__ = ("key", "number", "time_s")

    def __init__(self) -> None:
        self.time_s = 0.0
        self.key = self.number = 0


class EventQueue:
    """Entries in their order."""

    __slots__ = ("_due", "_due_slot", "_next", "_slots", "_slots_per_s", "_waiting")

    def __init__(self) -> None:
        self._slots_per_s = _SLOTS_PER_S
        self._due: list[Entry] = []
        """The entries of the present slot in order; before ``_next`` they lie behind us."""
        self._next = 0
        self._due_slot = -1
        """The present slot; nothing waits in it or in an earlier one."""
        self._slots: dict[int, list[Entry]] = {}
        """Later entries by slot, sorted when it comes up."""
        self._waiting: list[int] = []
        """A heap of the slots that have later entries."""

    def add(self, entry: Entry) -> None:
        """Put ``entry`` in, whose time is not before that of what was popped last."""
        slot = int(entry.time_s * self._slots_per_s)
        if slot <= self._due_slot:
            self._due.insert(self._place(entry), entry)
            return
        entries = self._slots.get(slot)
        if entries is None:
            self._slots[slot] = [entry]
            heappush(self._waiting, slot)
        else:
            entries.append(entry)

    def remove(self, entry: Entry) -> None:
        """Take ``entry`` out, which is in the queue."""
        slot = int(entry.time_s * self._slots_per_s)
        if slot <= self._due_slot:
            del self._due[self._place(entry)]
            return
        entries = self._slots[slot]
        place = len(entries) - 1
        while entries[place] is not entry:
            place -= 1
        last = entries.pop()
        if place < len(entries):
            entries[place] = last

    def pop(self) -> Entry | None:
        """Take the first entry out; ``None`` where there is none."""
        if self._next == len(self._due) and not self._turn_to_next():
            return None
        return self._take()

    def pop_until(self, time_s: float) -> Entry | None:
        """Take the first entry out; ``None`` where there is none, or its time is later than ``time_s``."""
        while self._next == len(self._due):
            if not self._waiting or self._waiting[0] > int(time_s * self._slots_per_s):
                return None
            self._turn_to_next()
        return None if self._due[self._next].time_s > time_s else self._take()

    def first(self) -> Entry | None:
        """The first entry, which stays; ``None`` where there is none."""
        if self._next == len(self._due) and not self._turn_to_next():
            return None
        return self._due[self._next]

    def _take(self) -> Entry:
        entry = self._due[self._next]
        self._next += 1
        if self._next > _MOST_PASSED:
            del self._due[: self._next]
            self._next = 0
        return entry

    def _place(self, entry: Entry) -> int:
        """Where an entry of the present slot is, or is to be."""
        due, low, high = self._due, self._next, len(self._due)
        while low < high:
            middle = (low + high) >> 1
            if _is_before(due[middle], entry):
                low = middle + 1
            else:
                high = middle
        return low

    def _turn_to_next(self) -> bool:
        """Go on to the next slot that has entries; returns whether there is one."""
        while self._waiting:
            self._due_slot = heappop(self._waiting)
            self._due = due = self._slots.pop(self._due_slot)
            self._next = 0
            if not due:
                continue
            _sort(due)
            if len(due) <= _FEW or not self._may_part(due[-1].time_s - due[0].time_s):
                return True
            self._narrow()
        return False

    def _may_part(self, span_s: float) -> bool:
        """Whether entries of one slot that lie over ``span_s`` would be in several narrower ones."""
        return self._slots_per_s < _MOST_SLOTS_PER_S and span_s * self._slots_per_s > 0.5

    def _narrow(self) -> None:
        """Put all entries into narrower slots; the present one is over then, and none is."""
        entries = list(self._due)
        for others in self._slots.values():
            entries.extend(others)
        self._due_slot, self._due = self._due_slot * int(_NARROWER) - 1, []
        self._slots.clear()
        self._waiting.clear()
        self._slots_per_s *= _NARROWER
        for entry in entries:
            self.add(entry)


def _is_before(one: Entry, other: Entry) -> bool:
    if one.time_s != other.time_s:
        return one.time_s < other.time_s
    if one.key != other.key:
        return one.key < other.key
    return one.number < other.number


def _order(entry: Entry) -> tuple[float, int, int]:
    return entry.time_s, entry.key, entry.number


def _sort(entries: list[Entry]) -> None:
    if len(entries) > _FEW:
        entries.sort(key=_order)
        return
    for end in range(1, len(entries)):
        entry, place = entries[end], end
        while place and _is_before(entry, entries[place - 1]):
            entries[place] = entries[place - 1]
            place -= 1
        if place != end:
            entries[place] = entry
