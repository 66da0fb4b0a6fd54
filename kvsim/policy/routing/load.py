"""Who is least loaded, without looking at everyone."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from typing import Final

_SEATLESS: Final = 1e6
"""Added to a share: more than any share there is."""


class LoadHeap:
    """Loads of ``n`` instances with the least one at hand.

    Each instance has one entry that counts, which is at most its load: loads may rise without a word, and the entry is
    put right when it surfaces. Equals take turns, so that an idle cluster does not live in its first instance's cache.
    """

    def __init__(self, num_instances: int) -> None:
        self.loads = [0.0] * num_instances
        self.total = 0.0
        self._entered = [0.0] * num_instances
        self._turn = list(range(num_instances))
        """Of the entry that counts; the turn a later entry gets is higher."""
        self._turns = num_instances
        self._heap = [(0.0, instance, instance) for instance in range(num_instances)]

    def add(self, instance: int, amount: float) -> None:
        """Change the load of ``instance`` by ``amount``."""
        self.put(instance, self.loads[instance] + amount)

    def put(self, instance: int, load: float) -> None:
        """The load of ``instance`` is ``load`` from now on."""
        before = self.loads[instance]
        self.loads[instance] = load
        self.total += load - before
        if load < before and load <= self._entered[instance]:
            heappush(self._heap, self._entry(instance, load))

    def least(self) -> int:
        """The least loaded instance; of equals, the one that came to its load first."""
        heap = self._heap
        while True:
            entered, turn, instance = heap[0]
            load = self.loads[instance]
            if turn != self._turn[instance]:
                heappop(heap)
            elif load == entered:
                return instance
            else:
                heapreplace(heap, self._entry(instance, load))

    @property
    def mean(self) -> float:
        return self.total / len(self.loads)

    def _entry(self, instance: int, load: float) -> tuple[float, int, int]:
        """A new entry for ``instance``; the one before counts no more."""
        self._entered[instance] = load
        self._turn[instance] = turn = self._turns = self._turns + 1
        return load, turn, instance


class DecodeLoads(LoadHeap):
    """How much of decode instances is promised: the larger one of the shares of KV tokens and of seats.

    Both may exceed 1: a prompt that shares blocks is counted as if it were alone, and KV may wait for a seat. Who has
    no seat left is more loaded than anybody who has.
    """

    def __init__(self, num_instances: int, room_tokens: int, seats: int) -> None:
        """``room_tokens``: KV tokens that an instance's pool holds. ``seats``: requests that it runs at a time."""
        super().__init__(num_instances)
        self._room_tokens, self._seats = room_tokens, seats
        self._tokens = [0] * num_instances
        self._requests = [0] * num_instances

    def seated_first(self, instances: Sequence[int]) -> Sequence[int]:
        """The same, those without a free seat last."""
        for instance in instances:
            if self._requests[instance] >= self._seats:
                return sorted(instances, key=self._lacks_seat)
        return instances

    def _lacks_seat(self, instance: int) -> bool:
        return self._requests[instance] >= self._seats

    def promise(self, instance: int, tokens: int) -> None:
        """A request gets a seat and room for so many tokens."""
        self._change(instance, tokens, 1)

    def give_back(self, instance: int, tokens: int) -> None:
        """It has left, or will not come."""
        self._change(instance, -tokens, -1)

    def _change(self, instance: int, tokens: int, requests: int) -> None:
        self._tokens[instance] += tokens
        taken = self._requests[instance] = self._requests[instance] + requests
        share = max(self._tokens[instance] / self._room_tokens, taken / self._seats)
        self.put(instance, share if taken < self._seats else share + _SEATLESS)
