"""Who is least loaded, without looking at everyone."""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace


class LoadHeap:
    """Loads of ``n`` instances with the least one at hand.

    Each instance has one entry that counts, which is at most its load: loads may rise without a word, and the entry is
    put right when it surfaces.
    """

    def __init__(self, num_instances: int) -> None:
        self.loads = [0.0] * num_instances
        self.total = 0.0
        self._entered = [0.0] * num_instances
        self._heap = [(0.0, instance) for instance in range(num_instances)]

    def add(self, instance: int, amount: float) -> None:
        """Change the load of ``instance`` by ``amount``."""
        load = self.loads[instance] = self.loads[instance] + amount
        self.total += amount
        if load < self._entered[instance]:
            self._entered[instance] = load
            heappush(self._heap, (load, instance))

    def least(self) -> int:
        """The least loaded instance; of equals, the lowest number."""
        heap, loads, entered = self._heap, self.loads, self._entered
        while True:
            entry, instance = heap[0]
            if entered[instance] != entry:
                heappop(heap)
                continue
            load = loads[instance]
            if load == entry:
                return instance
            entered[instance] = load
            heapreplace(heap, (load, instance))

    @property
    def mean(self) -> float:
        return self.total / len(self.loads)
