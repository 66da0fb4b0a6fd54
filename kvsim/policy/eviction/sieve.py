"""SIEVE: a queue, a bit per key that a hit sets, and a hand that clears bits until it finds a key to evict.

Zhang et al., "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024.
"""

from __future__ import annotations

from collections import OrderedDict

from kvsim.policy.eviction.base import NOBODY, Access, Eviction


class Sieve(Eviction):
    """The hand goes from the oldest key to the newest, skips and clears what was hit, evicts the first that was not.

    The queue is held in two parts: what the hand has passed in this round, and what is before it. The hand stands on
    the first key of the second part.
    """

    name = "sieve"

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._passed: OrderedDict[int, bool] = OrderedDict()
        self._ahead: OrderedDict[int, bool] = OrderedDict()
        """Whether each key was hit since the hand last passed it; oldest first."""

    def __contains__(self, key: int) -> bool:
        return key in self._ahead or key in self._passed

    def __len__(self) -> int:
        return len(self._ahead) + len(self._passed)

    def hit(self, key: int, access: Access) -> None:
        (self._ahead if key in self._ahead else self._passed)[key] = True

    def admit(self, key: int, access: Access) -> int:
        victim = self._evict() if len(self) >= self.capacity_blocks else NOBODY
        self._ahead[key] = False
        return victim

    def discard(self, key: int) -> None:
        del (self._ahead if key in self._ahead else self._passed)[key]

    def _evict(self) -> int:
        while True:
            self._turn_at_the_end()
            key, was_hit = self._ahead.popitem(last=False)
            if not was_hit:
                # What is admitted next must not come before the hand when that has just evicted the newest.
                self._turn_at_the_end()
                return key
            self._passed[key] = False

    def _turn_at_the_end(self) -> None:
        if not self._ahead:
            self._ahead, self._passed = self._passed, self._ahead
