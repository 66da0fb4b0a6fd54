"""Chunks on their way to a tier: they are there once they have been written, in the order in which that happens."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from kvsim.cache.chunks import Run
from kvsim.policy.eviction import Access


class Writes:
    """All writes under way below a system's engines.

    Nobody waits for a write, and nobody sees it but who asks the tiers: it is no event. Whoever is about to ask, or to
    occupy a port, lets happen first what lies in the past.
    """

    __slots__ = ("_count", "_queue")

    def __init__(self) -> None:
        self._queue: list[Any] = []
        self._count = 0

    def add(self, done_s: float, backing: Any, level: int, runs: list[Run], access: Access) -> None:
        """``backing.written(done_s, level, runs, access)`` at that time."""
        self._count += 1
        heappush(self._queue, (done_s, self._count, backing, level, runs, access))

    def settle(self, now_s: float) -> None:
        """All that is done by now, in the order of time; one may cause another."""
        queue = self._queue
        while queue and queue[0][0] <= now_s:
            done_s, _, backing, level, runs, access = heappop(queue)
            backing.written(done_s, level, runs, access)
