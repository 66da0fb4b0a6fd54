"""Belady's MIN: whoever is asked for last, or never again, goes. No policy that admits every miss hits more often.

Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966.
"""

from __future__ import annotations

from kvsim.policy.eviction.base import NEVER, NOBODY, Access, Eviction
from kvsim.policy.eviction.heap import KeyHeap


class Belady(Eviction):
    """Farthest ``Access.next_use`` first. The newcomer itself is always taken, the victim is found before it enters."""

    name = "belady"
    is_offline = True

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._useful = KeyHeap()
        self._useless: dict[int, None] = {}
        """Resident keys that are never asked for again."""

    def __contains__(self, key: int) -> bool:
        return key in self._useful or key in self._useless

    def __len__(self) -> int:
        return len(self._useful) + len(self._useless)

    def hit(self, key: int, access: Access) -> None:
        if access.next_use < NEVER:
            self._useless.pop(key, None)
            self._useful.put(key, -access.next_use)
        elif key in self._useful:
            self._useful.remove(key)
            self._useless[key] = None

    def admit(self, key: int, access: Access) -> int:
        victim = self._evict() if len(self) >= self.capacity_blocks else NOBODY
        if access.next_use < NEVER:
            self._useful.put(key, -access.next_use)
        else:
            self._useless[key] = None
        return victim

    def discard(self, key: int) -> None:
        if key in self._useless:
            del self._useless[key]
        else:
            self._useful.remove(key)

    def _evict(self) -> int:
        if self._useless:
            return self._useless.popitem()[0]
        victim = self._useful.least()[0]
        self._useful.remove(victim)
        return victim
