"""LIRS: whoever is asked for again after few others stays; the rest passes through a short queue.

Jiang and Zhang, "LIRS: An Efficient Low Inter-reference Recency Set Replacement Policy", SIGMETRICS 2002.
"""

from __future__ import annotations

from collections import OrderedDict

from kvsim.policy.eviction.base import NOBODY, Access, Eviction

HIR_SHARE = 0.01
"""Share of the capacity that the queue of high recency has: the paper's choice."""
STACK_SHARE = 2
"""How many times the capacity the stack may hold, ghosts included."""

LOW, HIGH, GHOST = range(3)
"""Low inter-reference recency; high and resident; high and gone."""


class Lirs(Eviction):
    """The names are the paper's: stack ``s`` by recency, its bottom always of low recency, and queue ``q``.

    Differs from the paper in three ways, as libCacheSim does: the stack is bounded (oldest ghost first); a newcomer is
    of low recency whenever those are fewer than their share, not just at the start; and a hit on a key that is in ``q``
    alone demotes the bottom of a full stack, so that the next newcomer finds such a place.
    """

    name = "lirs"

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._s: OrderedDict[int, int] = OrderedDict()
        """States; the bottom of the stack first."""
        self._q: OrderedDict[int, None] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        """Ghosts in the stack, first gone first."""
        self._num_low = 0
        self._most_low = capacity_blocks - max(1, int(capacity_blocks * HIR_SHARE))

    def __contains__(self, key: int) -> bool:
        return key in self._q or self._s.get(key) == LOW

    def __len__(self) -> int:
        return self._num_low + len(self._q)

    def hit(self, key: int, access: Access) -> None:
        state = self._s.get(key)
        if state is None:
            self._hit_in_queue(key)
            return
        self._s.move_to_end(key)
        if state == LOW:
            self._prune()
        else:
            del self._q[key]
            self._make_low(key)

    def admit(self, key: int, access: Access) -> int:
        is_ghost = self._ghosts.pop(key, NOBODY) is None
        if is_ghost:
            self._s.move_to_end(key)
            self._make_low(key)
            return self._evict() if len(self) > self.capacity_blocks else NOBODY
        victim = self._evict() if len(self) >= self.capacity_blocks else NOBODY
        if self._num_low < self._most_low:
            self._s[key] = LOW
            self._num_low += 1
        else:
            self._q[key] = None
            self._push(key)
        self._bound_stack()
        return victim

    def discard(self, key: int) -> None:
        if self._s.pop(key, HIGH) == LOW:
            self._num_low -= 1
        else:
            del self._q[key]
        self._prune()

    def _hit_in_queue(self, key: int) -> None:
        self._q.move_to_end(key)
        if self._num_low >= self._most_low:
            self._demote()
        self._push(key)
        self._bound_stack()

    def _push(self, key: int) -> None:
        """Onto the stack, which holds nothing while there is none of low recency to be its bottom."""
        if self._num_low:
            self._s[key] = HIGH

    def _make_low(self, key: int) -> None:
        """``key`` is on top of the stack and counted nowhere; the bottom makes way for it."""
        self._s[key] = LOW
        self._num_low += 1
        if self._num_low > self._most_low:
            self._demote()

    def _demote(self) -> None:
        """The bottom of the stack goes to the end of the queue."""
        if self._num_low:
            self._q[self._s.popitem(last=False)[0]] = None
            self._num_low -= 1
            self._prune()

    def _evict(self) -> int:
        victim = self._q.popitem(last=False)[0]
        if victim in self._s:
            self._s[victim] = GHOST
            self._ghosts[victim] = None
        return victim

    def _prune(self) -> None:
        """Until the bottom of the stack is of low recency again."""
        s = self._s
        while s:
            key = next(iter(s))
            state = s[key]
            if state == LOW:
                return
            del s[key]
            if state == GHOST:
                del self._ghosts[key]

    def _bound_stack(self) -> None:
        while self._ghosts and len(self._s) > STACK_SHARE * self.capacity_blocks:
            del self._s[self._ghosts.popitem(last=False)[0]]
