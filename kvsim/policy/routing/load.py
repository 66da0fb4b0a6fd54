"""Who is least loaded, without looking at everyone."""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class LoadHeap:
    """Loads of ``n`` instances with the least one at hand. Old entries stay in the heap until they surface."""

    def __init__(self, num_instances: int) -> None:
        self.loads = [0.0] * num_instances
        self.total = 0.0
        self._heap = [(0.0, instance) for instance in range(num_instances)]

    def add(self, instance: int, amount: float) -> None:
        """Change the load of ``instance`` by ``amount``."""
        load = self.loads[instance] = self.loads[instance] + amount
        self.total += amount
        heap = self._heap
        heappush(heap, (load, instance))
        if len(heap) > 8 * len(self.loads) + 64:
            self._heap = [(load, i) for i, load in enumerate(self.loads)]
            heapify(self._heap)

    def least(self) -> int:
        """The least loaded instance; of equals, the lowest number."""
        heap, loads = self._heap, self.loads
        while True:
            load, instance = heap[0]
            if loads[instance] == load:
                return instance
            heappop(heap)

    @property
    def mean(self) -> float:
        return self.total / len(self.loads)
