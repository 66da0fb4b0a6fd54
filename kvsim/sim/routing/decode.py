"""Where an answer is generated: the routers of decode instances.

A router proposes instances, best first; the caller reserves on the first one that has room, of those with a free seat
if there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from kvsim.sim.routing.loads import Loads

_ALIKE: Final = 1.05
"""Times the mean load: up to there an instance is about as loaded as others are. A rack nearer saves microseconds of
latency once, and bytes on uplinks where those are scarce; who finds a fuller batch pays for it in every step.
"""


class DecodeRouter(Protocol):
    """Proposes decode instances by how much of each is promised; it never sees the instances."""

    def propose(self, rack: int) -> Sequence[int]:
        """A few instances to try, best first, for KV that comes from ``rack``."""


class Capacity:
    """The emptiest of the same rack, unless that one is fuller than instances are on average: then that of all.

    Held against the emptiest of all, most would leave their rack for whoever has just lost a long request, all of them
    for the same one, where their transfers hold each other up.
    """

    def __init__(self, loads: Loads, racks: list[list[int]]) -> None:
        self._loads = loads
        self._racks = [[loads.by_instance[instance] for instance in rack] for rack in racks]
        self._begin = [0] * len(racks)
        """By rack: where the search begins, behind the one found last, so that equals take turns."""

    def propose(self, rack: int) -> Sequence[int]:
        least, local = self._loads.least(), self._emptiest(rack)
        if local < 0 or local == least:
            return (least,)
        if self._loads.loads[local] <= _ALIKE * self._loads.mean:
            return local, least
        return least, local

    def _emptiest(self, rack: int) -> int:
        """The emptiest instance of a rack; -1 where there is none."""
        local = self._racks[rack]
        if not local:
            return -1
        begin, num = self._begin[rack], len(local)
        best, place = begin, begin
        least_load = local[begin].load
        for _ in range(num - 1):
            place += 1
            if place == num:
                place = 0
            load = local[place].load
            if load < least_load:
                best, least_load = place, load
        self._begin[rack] = best + 1 if best + 1 < num else 0
        return local[best].instance


class LeastLoaded:
    """The emptiest of all."""

    def __init__(self, loads: Loads) -> None:
        self._loads = loads

    def propose(self, rack: int) -> Sequence[int]:
        return (self._loads.least(),)


class TwoChoices:
    """The emptier of two at random, then the other, then the emptiest of all."""

    def __init__(self, loads: Loads, generator: np.random.Generator) -> None:
        self._loads = loads
        self._generator = generator
        self._drawn: list[int] = []

    def propose(self, rack: int) -> Sequence[int]:
        loads = self._loads.loads
        if not self._drawn:
            self._drawn = self._generator.integers(0, len(loads), 4096).tolist()
        first, second = self._drawn.pop(), self._drawn.pop()
        if loads[second] < loads[first]:
            first, second = second, first
        return first, second, self._loads.least()


class RoundRobin:
    """One after the other, then the emptiest of all."""

    def __init__(self, loads: Loads) -> None:
        self._loads = loads
        self._next = -1

    def propose(self, rack: int) -> Sequence[int]:
        self._next = self._loads.after(self._next)
        return self._next, self._loads.least()
