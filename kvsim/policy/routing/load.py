"""Who is least loaded, without looking at everyone."""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace


class LoadHeap:
    """Loads of ``n`` instances with the least one at hand.

    Each instance has one entry that counts, which is at most its load: loads may rise without a word, and the entry is
    put right when it surfaces. Equals take turns, so that an idle cluster does not live in its first instance's cache.
    """

    def __init__(self, num_instances: int) -> None:
        self.loads = [0.0] * num_instances
        self.total = 0.0
        self._entered = [0.0] * num_instances
        self._turn = list(range(num_instances))
        """Of the entry that counts; the turn a later entry gets is higher."""
        self._turns = num_instances
        self._heap = [(0.0, instance, instance) for instance in range(num_instances)]

    def add(self, instance: int, amount: float) -> None:
        """Change the load of ``instance`` by ``amount``."""
        load = self.loads[instance] = self.loads[instance] + amount
        self.total += amount
        if amount < 0 and load <= self._entered[instance]:
            heappush(self._heap, self._entry(instance, load))

    def least(self) -> int:
        """The least loaded instance; of equals, the one that came to its load first."""
        heap = self._heap
        while True:
            entered, turn, instance = heap[0]
            load = self.loads[instance]
            if turn != self._turn[instance]:
                heappop(heap)
            elif load == entered:
                return instance
            else:
                heapreplace(heap, self._entry(instance, load))

    @property
    def mean(self) -> float:
        return self.total / len(self.loads)

    def _entry(self, instance: int, load: float) -> tuple[float, int, int]:
        """A new entry for ``instance``; the one before counts no more."""
        self._entered[instance] = load
        self._turn[instance] = turn = self._turns = self._turns + 1
        return load, turn, instance
