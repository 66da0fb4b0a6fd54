"""2Q: newcomers queue apart, and only what is asked for after it left that queue enters the main list.

Johnson and Shasha, "2Q: A Low Overhead High Performance Buffer Management Replacement Algorithm", VLDB 1994, the full
version.
"""

from __future__ import annotations

from collections import OrderedDict

from kvsim.policy.eviction.base import NOBODY, Access, Eviction

IN_SHARE = 0.25
OUT_SHARE = 0.5
"""Shares of the capacity, as the paper recommends: blocks of the queue of newcomers, and keys remembered after it."""


class TwoQ(Eviction):
    """The names are the paper's: ``a1in`` (FIFO), ``a1out`` (the FIFO of its ghosts) and ``am`` (LRU).

    A hit in ``a1in`` changes nothing. Room is made when the whole cache is full: from ``a1in`` where that is above its
    share, else from ``am``, so either may use what the other leaves free.
    """

    name = "twoq"

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._in: OrderedDict[int, None] = OrderedDict()
        self._out: OrderedDict[int, None] = OrderedDict()
        self._main: OrderedDict[int, None] = OrderedDict()
        self._in_blocks = int(capacity_blocks * IN_SHARE)
        self._out_blocks = int(capacity_blocks * OUT_SHARE)

    def __contains__(self, key: int) -> bool:
        return key in self._in or key in self._main

    def __len__(self) -> int:
        return len(self._in) + len(self._main)

    def hit(self, key: int, access: Access) -> None:
        if key in self._main:
            self._main.move_to_end(key)

    def admit(self, key: int, access: Access) -> int:
        is_ghost = key in self._out
        if is_ghost:
            del self._out[key]
        victim = self._evict() if len(self) >= self.capacity_blocks else NOBODY
        (self._main if is_ghost else self._in)[key] = None
        return victim

    def discard(self, key: int) -> None:
        del (self._in if key in self._in else self._main)[key]

    def _evict(self) -> int:
        if self._main and len(self._in) <= self._in_blocks:
            return self._main.popitem(last=False)[0]
        victim = self._in.popitem(last=False)[0]
        self._out[victim] = None
        if len(self._out) > self._out_blocks:
            self._out.popitem(last=False)
        return victim
