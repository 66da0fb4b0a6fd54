"""Least recently used: whoever was asked for longest ago goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from kvsim.policy.eviction.base import NOBODY, Access, Eviction


class Lru(Eviction):
    """Oldest use first. The victim leaves before the newcomer enters."""

    name = "lru"

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._order: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, key: int) -> bool:
        return key in self._order

    def __len__(self) -> int:
        return len(self._order)

    def hit(self, key: int, access: Access) -> None:
        self._order.move_to_end(key)

    def admit(self, key: int, access: Access) -> int:
        order = self._order
        victim = order.popitem(last=False)[0] if len(order) >= self.capacity_blocks else NOBODY
        order[key] = None
        return victim

    def discard(self, key: int) -> None:
        del self._order[key]

    def refresh(self, keys: Sequence[int]) -> None:
        for key in keys:
            self._order.move_to_end(key)

    def replay(self, keys: Sequence[int]) -> int:
        """The hits of a trace of keys, as the base class counts them, without a call per access."""
        order, room = self._order, self.capacity_blocks - len(self._order)
        move_to_end, popitem = order.move_to_end, order.popitem
        hits = 0
        for key in keys:
            if key in order:
                hits += 1
                move_to_end(key)
                continue
            order[key] = None
            if room:
                room -= 1
            else:
                popitem(last=False)
        return hits
