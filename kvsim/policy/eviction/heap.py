"""Keys by priority, the least first, where priorities change often."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace


class KeyHeap:
    """A heap whose outdated entries are skipped when they come up, and dropped when they are the most."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int]] = []
        """Priority, stamp, key."""
        self._stamps: dict[int, int] = {}
        self._next_stamp = 0

    def __contains__(self, key: int) -> bool:
        return key in self._stamps

    def __len__(self) -> int:
        return len(self._stamps)

    def put(self, key: int, priority: float) -> None:
        """Enter ``key`` or change its priority; among equals, whoever was put first comes first."""
        self._next_stamp = stamp = self._next_stamp + 1
        self._stamps[key] = stamp
        heappush(self._heap, (priority, stamp, key))
        if len(self._heap) > 2 * len(self._stamps) + 64:
            self._compact()

    def least(self) -> tuple[int, float]:
        """The key with the least priority, and that. Raises ``IndexError`` where there is none."""
        heap, stamps = self._heap, self._stamps
        while True:
            priority, stamp, key = heap[0]
            if stamps.get(key) == stamp:
                return key, priority
            heappop(heap)

    def replace(self, least: int, key: int, priority: float) -> None:
        """Enter ``key`` in the place of ``least``, which is what :meth:`least` has just said."""
        self._next_stamp = stamp = self._next_stamp + 1
        del self._stamps[least]
        self._stamps[key] = stamp
        heapreplace(self._heap, (priority, stamp, key))

    def remove(self, key: int) -> None:
        """Take out ``key``, which must be there."""
        del self._stamps[key]

    def _compact(self) -> None:
        stamps = self._stamps
        self._heap = [entry for entry in self._heap if stamps.get(entry[2]) == entry[1]]
        heapify(self._heap)
