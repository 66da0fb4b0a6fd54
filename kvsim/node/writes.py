"""Chunks on their way to a tier: they are there once they have been written, in the order in which that happens."""

from __future__ import annotations

from kvsim.agenda import Agenda
from kvsim.cache.chunks import Run
from kvsim.policy.eviction.access import Access


class Receiver:
    """Where chunks are written to."""

    def written(self, now_s: float, level: int, runs: list[Run], access: Access) -> None:
        """Chunks have arrived at one of its levels."""
        raise NotImplementedError


class Write:
    """Chunks that go to one level of a receiver."""

    __slots__ = ("access", "done_s", "level", "receiver", "runs")

    def __init__(self, done_s: float, receiver: Receiver, level: int, runs: list[Run], access: Access) -> None:
        self.done_s, self.receiver, self.level, self.runs, self.access = done_s, receiver, level, runs, access


class Writes:
    """All writes under way below a system's engines.

    Nobody waits for a write, and nobody sees it but who asks the tiers: it is no event. Whoever is about to ask, or to
    occupy a port, lets happen first what lies in the past.
    """

    __slots__ = ("_added", "_agenda")

    def __init__(self) -> None:
        self._agenda = Agenda()
        self._added = 0

    def add(self, write: Write) -> None:
        """Let it happen in its time, and after those of the same time that were added before."""
        self._added += 1
        self._agenda.add(write.done_s, (write.done_s, self._added, write))

    def lose_all(self) -> None:
        """Power off: nothing of what is under way arrives."""
        self._agenda = Agenda()

    def settle(self, now_s: float) -> None:
        """All that is done by now, in the order of time; one may cause another."""
        agenda = self._agenda
        while True:
            entry = agenda.pop_until(now_s)
            if entry is None:
                return
            write: Write = entry[2]
            write.receiver.written(write.done_s, write.level, write.runs, write.access)
