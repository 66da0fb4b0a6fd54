"""Who is least loaded, without looking at everyone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from kvsim.acyclic import mypyc_attr

_SEATLESS: Final = 1e6
"""Added to a share: more than any share there is."""


@mypyc_attr(acyclic=True)
class Load:
    """What one instance has to do: side by side in memory, as thousands of them are looked at in no order."""

    __slots__ = ("instance", "load", "requests", "tokens", "turn")

    def __init__(self, instance: int) -> None:
        self.instance = instance
        self.load = 0.0
        self.turn = instance
        """A number that is higher the later the load changed."""
        self.tokens = self.requests = 0
        """What is promised of a decode instance."""


class Loads:
    """Loads of ``n`` instances with the least one at hand: a tournament, in which each change is played again up to
    where it matters no more.

    Equals take turns, so that an idle cluster does not live in its first instance's cache. An instance that is out of
    service has an infinite load, and takes no part in means; what it still has is kept beside.
    """

    def __init__(self, num_instances: int) -> None:
        self.loads = [0.0] * num_instances
        self.total = 0.0
        self._num = num_instances
        self._turns = num_instances
        self.by_instance = [Load(instance) for instance in range(num_instances)]
        self._winners = self.by_instance * 2
        """Place ``i`` has the winner of places ``2 i`` and ``2 i + 1``, the last ``n`` have an instance each."""
        for place in range(num_instances - 1, 0, -1):
            left, right = self._winners[2 * place], self._winners[2 * place + 1]
            self._winners[place] = left if left.instance < right.instance else right
        self._out: dict[int, float] = {}
        """What instances have that are out of service."""

    def add(self, instance: int, amount: float) -> None:
        """Change the load of ``instance`` by ``amount``."""
        if self._out and instance in self._out:
            self._out[instance] += amount
        else:
            self.put(instance, self.loads[instance] + amount)

    def load(self, instance: int) -> float:
        """What an instance has, in service or out of it."""
        return self._out.get(instance, self.loads[instance])

    def held(self, instance: int) -> float:
        """What requests are on it to its router: 0 where there are none."""
        return self.load(instance)

    @property
    def in_service(self) -> int:
        """Instances that are in service."""
        return self._num - len(self._out)

    def is_out(self, instance: int) -> bool:
        """Whether an instance is out of service."""
        return instance in self._out

    def take_out(self, instance: int) -> None:
        """The instance is out of service from now on: nobody is to be sent there."""
        if instance not in self._out:
            load = self.loads[instance]
            self.total -= load
            self._play(instance, math.inf)
            self._out[instance] = load

    def put_in(self, instance: int) -> None:
        """The instance is in service again, with what it has."""
        if instance in self._out:
            load = self._out.pop(instance)
            self.total += load
            self._play(instance, load)

    def after(self, instance: int) -> int:
        """The next instance in service behind one, round and round; the very next where nobody is."""
        following = (instance + 1) % self._num
        if len(self._out) == self._num:
            return following
        while self._out and following in self._out:
            following = (following + 1) % self._num
        return following

    def put(self, instance: int, load: float) -> None:
        """The load of ``instance`` is ``load`` from now on."""
        if self._out and instance in self._out:
            self._out[instance] = load
            return
        self.total += load - self.loads[instance]
        self._play(instance, load)

    def _play(self, instance: int, load: float) -> None:
        """Find the least loaded again, now that an instance has another load."""
        winners, changed = self._winners, self.by_instance[instance]
        self.loads[instance] = changed.load = load
        changed.turn = self._turns = self._turns + 1
        place = (self._num + instance) >> 1
        while place:
            left, right = winners[2 * place], winners[2 * place + 1]
            if right.load < left.load or (right.load == left.load and right.turn < left.turn):
                left = right
            if left is not changed and winners[place] is left:
                return
            winners[place] = left
            place >>= 1

    def least(self) -> int:
        """The least loaded instance in service; of equals, the one that came to its load first."""
        return self._winners[1].instance if self._num > 1 else 0

    @property
    def mean(self) -> float:
        """The mean load of those in service; 0 where nobody is."""
        return self.total / max(self._num - len(self._out), 1)


class DecodeLoads(Loads):
    """How much of decode instances is promised: the larger one of the shares of KV tokens and of seats.

    Both may exceed 1: a prompt that shares blocks is counted as if it were alone, and KV may wait for a seat. Who has
    no seat left is more loaded than anybody who has.
    """

    def __init__(self, num_instances: int, room_tokens: int, seats: int) -> None:
        """``room_tokens``: KV tokens that an instance's pool holds. ``seats``: requests that it runs at a time."""
        super().__init__(num_instances)
        self._room_tokens, self._seats = room_tokens, seats
        self._seatless = 0
        """Instances in service without a free seat."""

    @property
    def mean(self) -> float:
        """The mean of the shares, over instances in service; 0 where nobody is."""
        return (self.total - self._seatless * _SEATLESS) / max(self._num - len(self._out), 1)

    def take_out(self, instance: int) -> None:
        """The instance is out of service from now on: nobody is to be sent there."""
        if instance not in self._out and self._lacks_seat(instance):
            self._seatless -= 1
        super().take_out(instance)

    def put_in(self, instance: int) -> None:
        """The instance is in service again, with what it has."""
        if instance in self._out and self._lacks_seat(instance):
            self._seatless += 1
        super().put_in(instance)

    def requests(self, instance: int) -> int:
        """Requests that are promised a seat there."""
        return self.by_instance[instance].requests

    def seated_first(self, instances: Sequence[int]) -> Sequence[int]:
        """``instances``, those without a free seat last."""
        for instance in instances:
            if self.by_instance[instance].requests >= self._seats:
                return sorted(instances, key=self._lacks_seat)
        return instances

    def _lacks_seat(self, instance: int) -> bool:
        return self.by_instance[instance].requests >= self._seats

    def promise(self, instance: int, tokens: int) -> None:
        """Promise a request a seat, and room for ``tokens``."""
        self._change(instance, tokens, 1)

    def give_back(self, instance: int, tokens: int) -> None:
        """Take a promise back: the request has left, or will not come."""
        self._change(instance, -tokens, -1)

    def _change(self, instance: int, tokens: int, requests: int) -> None:
        promised = self.by_instance[instance]
        promised.tokens += tokens
        before = promised.requests
        taken = promised.requests = before + requests
        if instance not in self._out:
            if before < self._seats <= taken:
                self._seatless += 1
            elif taken < self._seats <= before:
                self._seatless -= 1
        share = max(promised.tokens / self._room_tokens, taken / self._seats)
        self.put(instance, share if taken < self._seats else share + _SEATLESS)
