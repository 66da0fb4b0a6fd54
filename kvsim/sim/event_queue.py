"""A queue of what is to happen, the earliest first: thousands of entries, most of which are due within seconds.

A calendar queue of slots of fixed width; see Brown, "Calendar queues: a fast O(1) priority queue implementation for
the simulation event set problem", Communications of the ACM 31(10), 1988. With one heap of ten thousand sleepers,
walking it and comparing entries was a seventh of all time. Slots become narrower where many entries share one, so that
there are few to sort and to search; compiled code does both without making keys of them.
"""

from __future__ import annotations

from typing import Final

_SLOT_BITS: Final = 6
"""At first a second has, and a turn of the wheel, 2 to the power of this of slots."""
_MOST_SLOTS_PER_S: Final = 65536.0
_NARROWER_BITS: Final = 2
"""Slots become narrower by 2 to the power of this."""
_MOST_BITS: Final = 12
"""A turn of the wheel has at most so many bits of slots: 2 x 4096 of them lie in 64 KiB."""
_MOST_PASSED: Final = 256
"""Entries behind us in the present slot that are kept at most."""
_CROWDED: Final = 8
"""More entries that lie apart in one slot are a reason for narrower ones."""
_FEW: Final = 32
"""Up to so many entries are sorted by insertion."""


class Entry:
    """Something that is to happen: at ``time_s``, by ``key`` among those of one time, by ``number`` among equals.

    While it is in a queue, no other entry there may have all three alike, and they must not change. It may be in one
    queue at a time.
    """

    __slots__ = ("behind", "key", "number", "place", "time_s")

    def __init__(self) -> None:
        self.time_s = 0.0
        self.key = self.number = 0
        self.behind: Entry | None = None
        """The next entry of its slot in a queue."""
        self.place = 0
        """Where it is in a queue among those of a later turn."""


class EventQueue:
    """Entries in their order: those of the present slot in a sorted list, those of this turn of a wheel of slots and of
    the next in the wheel, later ones by turn."""

    __slots__ = ("_bits", "_due", "_due_slot", "_later", "_near", "_near_end", "_next", "_slots_per_s", "_wheel")

    def __init__(self) -> None:
        self._slots_per_s = float(1 << _SLOT_BITS)
        self._due: list[Entry] = []
        """The entries of the present slot and earlier ones in order; before ``_next`` they lie behind us."""
        self._next = 0
        self._due_slot = -1
        """The present slot; nothing waits in it or in an earlier one."""
        self._bits = _SLOT_BITS
        """A turn has 2 to the power of this of slots."""
        self._wheel: list[Entry | None] = [None] * (2 << _SLOT_BITS)
        """By slot, modulo two turns: one of its entries, behind which are the others."""
        self._near = 0
        """Entries in the wheel."""
        self._near_end = 2 << _SLOT_BITS
        """The first slot that has no place in the wheel."""
        self._later: dict[int, list[Entry]] = {}
        """By turn: entries from there on."""

    def add(self, entry: Entry) -> None:
        """Put ``entry`` in, whose time is not before that of what was popped last."""
        slot = int(entry.time_s * self._slots_per_s)
        if slot <= self._due_slot:
            self._due.insert(self._place(entry), entry)
        elif slot < self._near_end:
            self._put(entry, slot)
        else:
            turn = slot >> self._bits
            entries = self._later.get(turn)
            if entries is None:
                entry.place = 0
                self._later[turn] = [entry]
            else:
                entry.place = len(entries)
                entries.append(entry)

    def remove(self, entry: Entry) -> None:
        """Take ``entry`` out, which is in the queue."""
        slot = int(entry.time_s * self._slots_per_s)
        if slot <= self._due_slot:
            del self._due[self._place(entry)]
        elif slot < self._near_end:
            self._take_from_wheel(entry, slot)
        else:
            turn = slot >> self._bits
            entries = self._later[turn]
            last = entries.pop()
            if last is not entry:
                entries[entry.place] = last
                last.place = entry.place
            elif not entries:
                del self._later[turn]

    def pop(self) -> Entry | None:
        """Take the first entry out; ``None`` where there is none."""
        if self._next == len(self._due) and not self._turn_to_next():
            return None
        return self._take()

    def pop_until(self, time_s: float) -> Entry | None:
        """Take the first entry out; ``None`` where there is none, or its time is later than ``time_s``."""
        while self._next == len(self._due):
            # What is added before the next entry, if that is far off, is not to be sorted in before it one by one.
            if self._next_slot() > int(time_s * self._slots_per_s) or not self._turn_to_next():
                return None
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

    def _put(self, entry: Entry, slot: int) -> None:
        wheel = self._wheel
        place = slot & (len(wheel) - 1)
        entry.behind = wheel[place]
        wheel[place] = entry
        self._near += 1

    def _take_from_wheel(self, entry: Entry, slot: int) -> None:
        wheel = self._wheel
        place = slot & (len(wheel) - 1)
        before = wheel[place]
        if before is entry:
            wheel[place] = entry.behind
        else:
            while before is not None and before.behind is not entry:
                before = before.behind
            assert before is not None
            before.behind = entry.behind
        entry.behind = None
        self._near -= 1

    def _next_slot(self) -> int:
        """The next slot with entries, or where nothing is near the first one of the next turn that has some; -1 where
        none has."""
        if not self._near:
            return min(self._later) << self._bits if self._later else -1
        wheel, slot = self._wheel, self._due_slot + 1
        mask = len(wheel) - 1
        while wheel[slot & mask] is None:
            slot += 1
        return slot

    def _turn_to_next(self) -> bool:
        """Go on to the next slot that has entries; returns whether there is one."""
        while True:
            if not self._near:
                if not self._later:
                    return False
                self._begin_at(min(self._later) << self._bits)
            slot = self._next_slot()
            due = self._taken(slot)
            self._due, self._next, self._due_slot = due, 0, slot
            if slot >= self._near_end - (1 << self._bits):
                self._turn()
            _sort(due)
            if len(due) <= _CROWDED or not self._may_part(due[-1].time_s - due[0].time_s):
                return True
            self._narrow()

    def _taken(self, slot: int) -> list[Entry]:
        """Take out the entries of a slot of the wheel."""
        wheel = self._wheel
        found: list[Entry] = []
        place = slot & (len(wheel) - 1)
        entry = wheel[place]
        wheel[place] = None
        while entry is not None:
            found.append(entry)
            behind = entry.behind
            entry.behind = None
            entry = behind
        self._near -= len(found)
        return found

    def _turn(self) -> None:
        """Another turn of the wheel has begun: those of the turn after it have places now."""
        turn = self._near_end >> self._bits
        self._near_end += 1 << self._bits
        entries = self._later.pop(turn, None)
        if entries is not None:
            for entry in entries:
                self._put(entry, int(entry.time_s * self._slots_per_s))

    def _begin_at(self, slot: int) -> None:
        """Have the wheel, which is empty, begin with the turn of ``slot``: nothing is due before that."""
        turn = slot >> self._bits
        self._near_end = turn << self._bits
        self._due_slot = max(self._due_slot, self._near_end - 1)
        self._turn()
        self._turn()

    def _may_part(self, span_s: float) -> bool:
        """Whether entries of one slot that lie over ``span_s`` would be in several narrower ones."""
        return self._slots_per_s < _MOST_SLOTS_PER_S and span_s * self._slots_per_s > 0.5

    def _narrow(self) -> None:
        """Put all entries into narrower slots; the present one is over then, and none is."""
        entries = list(self._due)
        for slot in range(len(self._wheel)):
            entries += self._taken(slot)
        for others in self._later.values():
            entries += others
        self._slots_per_s *= float(1 << _NARROWER_BITS)
        self._bits = min(self._bits + _NARROWER_BITS, _MOST_BITS)
        self._due_slot, self._due = (self._due_slot << _NARROWER_BITS) - 1, []
        self._wheel, self._near, self._later = [None] * (2 << self._bits), 0, {}
        self._begin_at(self._due_slot + 1)
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
