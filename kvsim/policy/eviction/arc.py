"""ARC: recency and frequency in two lists, whose sizes follow what ghosts of either would have hit.

Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003, figure 4.
"""

from __future__ import annotations

from collections import OrderedDict

from kvsim.policy.eviction.base import NOBODY, Access, Eviction

Keys = OrderedDict[int, None]
"""Least recently used first."""


class Arc(Eviction):
    """The names are the paper's: ``t1`` seen once, ``t2`` seen again, ``b1`` and ``b2`` the ghosts of what left them.

    ``p``, the size wanted for ``t1``, is a real number and so are its steps. A step is reckoned with the ghost still in
    its list.
    """

    name = "arc"

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._t1: Keys = OrderedDict()
        self._t2: Keys = OrderedDict()
        self._b1: Keys = OrderedDict()
        self._b2: Keys = OrderedDict()
        self._p = 0.0

    def __contains__(self, key: int) -> bool:
        return key in self._t1 or key in self._t2

    def __len__(self) -> int:
        return len(self._t1) + len(self._t2)

    def hit(self, key: int, access: Access) -> None:
        if key in self._t2:
            self._t2.move_to_end(key)
        else:
            del self._t1[key]
            self._t2[key] = None

    def admit(self, key: int, access: Access) -> int:
        b1, b2 = self._b1, self._b2
        if key in b1:
            self._p = min(self._p + max(len(b2) / len(b1), 1.0), self.capacity_blocks)
            return self._admit_ghost(key, b1)
        if key in b2:
            self._p = max(self._p - max(len(b1) / len(b2), 1.0), 0.0)
            return self._admit_ghost(key, b2)
        victim = self._make_room() if len(self) >= self.capacity_blocks else self._trim()
        self._t1[key] = None
        return victim

    def discard(self, key: int) -> None:
        del (self._t1 if key in self._t1 else self._t2)[key]

    def _admit_ghost(self, key: int, ghosts: Keys) -> int:
        del ghosts[key]
        victim = self._replace(ghosts is self._b2) if len(self) >= self.capacity_blocks else NOBODY
        self._t2[key] = None
        return victim

    def _make_room(self) -> int:
        """Case IV: the newcomer is in none of the lists."""
        t1, b1, capacity = self._t1, self._b1, self.capacity_blocks
        if len(t1) + len(b1) >= capacity:
            if not b1:
                return t1.popitem(last=False)[0]
            b1.popitem(last=False)
        elif len(self) + len(b1) + len(self._b2) >= 2 * capacity:
            self._b2.popitem(last=False)
        return self._replace(False)

    def _replace(self, was_in_b2: bool) -> int:
        t1, t2 = self._t1, self._t2
        if not t2 or (t1 and (len(t1) > self._p or (was_in_b2 and len(t1) == self._p))):
            victim = t1.popitem(last=False)[0]
            self._b1[victim] = None
        else:
            victim = t2.popitem(last=False)[0]
            self._b2[victim] = None
        return victim

    def _trim(self) -> int:
        """After discards the cache fills without evicting: the ghosts must keep to the paper's limits all the same."""
        if self._b1 and len(self._t1) + len(self._b1) >= self.capacity_blocks:
            self._b1.popitem(last=False)
        if self._b2 and len(self) + len(self._b1) + len(self._b2) >= 2 * self.capacity_blocks:
            self._b2.popitem(last=False)
        return NOBODY
