"""First in, first out: whoever came longest ago goes, however often it was asked for."""

from __future__ import annotations

from collections import OrderedDict

from kvsim.policy.eviction.base import NOBODY, Access, Eviction


class Fifo(Eviction):
    """Oldest arrival first; a hit changes nothing."""

    name = "fifo"

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._queue: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, key: int) -> bool:
        return key in self._queue

    def __len__(self) -> int:
        return len(self._queue)

    def hit(self, key: int, access: Access) -> None:
        pass

    def admit(self, key: int, access: Access) -> int:
        queue = self._queue
        victim = queue.popitem(last=False)[0] if len(queue) >= self.capacity_blocks else NOBODY
        queue[key] = None
        return victim

    def discard(self, key: int) -> None:
        del self._queue[key]
