"""Least frequently used, counted while resident: whoever was asked for least often goes."""

from __future__ import annotations

from collections import OrderedDict

from kvsim.policy.eviction.base import NOBODY, Access, Eviction


class Lfu(Eviction):
    """Fewest uses first; among equals, whoever has had that number of uses longest.

    A key starts at one use and what leaves is forgotten (in-cache LFU). One queue per number of uses makes every
    operation O(1) (Shah, Mitra and Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010).
    """

    name = "lfu"

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._uses: dict[int, int] = {}
        self._queues: dict[int, OrderedDict[int, None]] = {}
        """By number of uses; none is empty."""
        self._fewest = 1

    def __contains__(self, key: int) -> bool:
        return key in self._uses

    def __len__(self) -> int:
        return len(self._uses)

    def hit(self, key: int, access: Access) -> None:
        uses = self._uses[key]
        self._uses[key] = uses + 1
        if self._leave(key, uses) and uses == self._fewest:
            self._fewest = uses + 1
        self._enter(key, uses + 1)

    def admit(self, key: int, access: Access) -> int:
        victim = NOBODY
        if len(self._uses) >= self.capacity_blocks:
            victim = next(iter(self._queues[self._fewest]))
            self._leave(victim, self._uses.pop(victim))
        self._uses[key] = self._fewest = 1
        self._enter(key, 1)
        return victim

    def discard(self, key: int) -> None:
        uses = self._uses.pop(key)
        if self._leave(key, uses) and uses == self._fewest:
            self._fewest = min(self._queues, default=1)

    def _enter(self, key: int, uses: int) -> None:
        queue = self._queues.get(uses)
        if queue is None:
            queue = self._queues[uses] = OrderedDict()
        queue[key] = None

    def _leave(self, key: int, uses: int) -> bool:
        """Whether that was the last one of its queue."""
        queue = self._queues[uses]
        del queue[key]
        if queue:
            return False
        del self._queues[uses]
        return True
