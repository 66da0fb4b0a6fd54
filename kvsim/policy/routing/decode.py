"""Where an answer is generated: the routers of decode instances.

A router proposes instances, best first; the caller reserves on the first one that has room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kvsim.policy.routing.load import LoadHeap


class DecodeRouter(Protocol):
    """Proposes decode instances by the KV tokens committed to each; it never sees the instances."""

    def propose(self, rack: int) -> Sequence[int]:
        """A few instances to try, best first, for KV that comes from ``rack``."""


class Capacity:
    """The emptiest of the same rack, else the emptiest of all."""

    def __init__(self, loads: LoadHeap, racks: list[list[int]]) -> None:
        self._loads, self._racks = loads, racks

    def propose(self, rack: int) -> Sequence[int]:
        local = self._racks[rack]
        if not local:
            return (self._loads.least(),)
        return min(local, key=self._loads.loads.__getitem__), self._loads.least()


class LeastLoaded:
    """The emptiest of all."""

    def __init__(self, loads: LoadHeap) -> None:
        self._loads = loads

    def propose(self, rack: int) -> Sequence[int]:
        return (self._loads.least(),)


class TwoChoices:
    """The emptier of two at random, then the other, then the emptiest of all."""

    def __init__(self, loads: LoadHeap, generator: np.random.Generator) -> None:
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

    def __init__(self, loads: LoadHeap) -> None:
        self._loads = loads
        self._next = -1

    def propose(self, rack: int) -> Sequence[int]:
        self._next = (self._next + 1) % len(self._loads.loads)
        return self._next, self._loads.least()
