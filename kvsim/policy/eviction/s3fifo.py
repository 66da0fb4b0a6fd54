"""S3-FIFO: a small queue that most newcomers leave soon, a main queue with second chances, and a queue of ghosts.

Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023.
"""

from __future__ import annotations

from collections import OrderedDict

from kvsim.policy.eviction.base import NOBODY, Access, Eviction

SMALL_SHARE = 0.1
GHOST_SHARE = 0.9
"""Shares of the capacity: blocks of the small queue, and keys remembered after it."""
HITS_TO_MAIN = 2
"""Hits in the small queue with which a key moves on instead of leaving."""
MOST_CHANCES = 3
"""What the main queue counts of a key's hits: two bits."""


class S3Fifo(Eviction):
    """Differs from the paper in three ways, as its authors' later code does.

    Until the cache is full for the first time, what the small queue has no room for goes to the main one, and a key
    needs two hits in the small queue to move on (the paper: "more than once", in its code one). A key that moves on
    starts again at no hits. The small queue has at least one block. All keys with such hits at its end move on before
    anything leaves, without a look at how full the main queue is; the paper evicts from a full main queue before the
    next one moves. About 7 of 12,000 short random traces show it.
    """

    name = "s3fifo"

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._small: OrderedDict[int, int] = OrderedDict()
        self._main: OrderedDict[int, int] = OrderedDict()
        """Hits of each key; oldest first."""
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._small_blocks = max(1, int(capacity_blocks * SMALL_SHARE))
        self._main_blocks = capacity_blocks - self._small_blocks
        self._num_ghosts = int(capacity_blocks * GHOST_SHARE)
        self._was_full = False

    def __contains__(self, key: int) -> bool:
        return key in self._small or key in self._main

    def __len__(self) -> int:
        return len(self._small) + len(self._main)

    def hit(self, key: int, access: Access) -> None:
        queue = self._small if key in self._small else self._main
        queue[key] += 1

    def admit(self, key: int, access: Access) -> int:
        is_ghost = key in self._ghosts
        if is_ghost:
            del self._ghosts[key]
        victim = self._evict() if len(self) >= self.capacity_blocks else NOBODY
        overflows = not self._was_full and len(self._small) >= self._small_blocks
        (self._main if is_ghost or overflows else self._small)[key] = 0
        return victim

    def discard(self, key: int) -> None:
        del (self._small if key in self._small else self._main)[key]

    def _evict(self) -> int:
        self._was_full = True
        while self._small and len(self._main) <= self._main_blocks:
            victim = self._from_small()
            if victim != NOBODY:
                return victim
        return self._from_main()

    def _from_small(self) -> int:
        """``NOBODY`` when all of the small queue moved on."""
        while self._small:
            key, hits = self._small.popitem(last=False)
            if hits < HITS_TO_MAIN:
                self._remember(key)
                return key
            self._main[key] = 0
        return NOBODY

    def _from_main(self) -> int:
        while True:
            key, hits = self._main.popitem(last=False)
            if not hits:
                return key
            self._main[key] = min(hits, MOST_CHANCES) - 1

    def _remember(self, key: int) -> None:
        self._ghosts[key] = None
        if len(self._ghosts) > self._num_ghosts:
            self._ghosts.popitem(last=False)
