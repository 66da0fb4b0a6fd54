"""Chunks on their way to a tier: they are there once they have been written, in the order in which that happens."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from kvsim.cache.chunks import Run
from kvsim.policy.eviction.access import Access


class Write:
    """Chunks that go to one level of a backing."""

    __slots__ = ("access", "backing", "level", "next", "runs")

    def __init__(self, backing: Any, level: int, runs: list[Run], access: Access) -> None:
        self.backing, self.level, self.runs, self.access = backing, level, runs, access
        self.next: Write | None = None
        """Done at the same instant, and booked later."""


class Writes:
    """All writes under way below a system's engines.

    Nobody waits for a write, and nobody sees it but who asks the tiers: it is no event. Whoever is about to ask, or to
    occupy a port, lets happen first what lies in the past.
    """

    __slots__ = ("_at", "_times_s")

    def __init__(self) -> None:
        self._times_s: list[float] = []
        """A heap of bare numbers, which compare fast."""
        self._at: dict[float, Write] = {}

    def add(self, done_s: float, write: Write) -> None:
        """Let ``write.backing.written`` be called for that time."""
        earlier = self._at.get(done_s)
        if earlier is None:
            self._at[done_s] = write
            heappush(self._times_s, done_s)
            return
        while earlier.next is not None:
            earlier = earlier.next
        earlier.next = write

    def settle(self, now_s: float) -> None:
        """All that is done by now, in the order of time; one may cause another."""
        times_s = self._times_s
        while times_s and times_s[0] <= now_s:
            done_s = heappop(times_s)
            write: Write | None = self._at.pop(done_s)
            while write is not None:
                write.backing.written(done_s, write.level, write.runs, write.access)
                write = write.next
