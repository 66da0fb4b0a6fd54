"""Routing over instances of several kinds: loads and backlogs count as seconds of work, not as requests or tokens.

What a request or a token is worth on an instance is how many times longer than the fastest kind a prompt token takes it
that has nothing else to do: 1 for the fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.routing.loads import Loads
from kvsim.sim.routing.prefill import Affinity, PrefillRouter
from kvsim.sim.routing.prefix_index import Path, PrefixIndex
from kvsim.sim.routing.tier_view import Holder

_FULL: Final = 1e6
"""Added to a load: more than any that is not full has."""


class PooledLoads(Loads):
    """Requests in flight, in those of the fastest kind, the one that comes next counted: ``(n + 1) x slowness - 1``.

    An idle slow instance is so more loaded than an idle fast one. Who is full is more loaded than anybody who is not:
    a batch that has room serves one more at little cost, however slowly. Of kinds that are as fast as each other loads
    are what ``Loads`` has.
    """

    def __init__(self, slowness: Sequence[float], room: Sequence[float]) -> None:
        """``room``: the requests that fill each instance."""
        super().__init__(len(slowness))
        self._slowness, self._room = list(slowness), list(room)
        self._alike = max(slowness) == 1.0
        self._requests = [0.0] * len(slowness)
        self._full = 0
        """Instances in service that are full."""
        for instance, factor in enumerate(self._slowness):
            if factor != 1.0:
                self.put(instance, factor - 1.0)

    @property
    def mean(self) -> float:
        """The mean load, over instances in service, full or not."""
        return (self.total - self._full * _FULL) / max(self._num - len(self._out), 1)

    def held(self, instance: int) -> float:
        return self._requests[instance]

    def take_out(self, instance: int) -> None:
        if instance not in self._out and self._counts_as_full(instance):
            self._full -= 1
        super().take_out(instance)

    def put_in(self, instance: int) -> None:
        if instance in self._out and self._counts_as_full(instance):
            self._full += 1
        super().put_in(instance)

    def _counts_as_full(self, instance: int) -> bool:
        return not self._alike and self.is_full(instance)

    def add(self, instance: int, amount: float) -> None:
        """Change the number of requests of ``instance`` by ``amount``."""
        before = self._requests[instance]
        requests = self._requests[instance] = before + amount
        if not self._alike and instance not in self._out:
            self._full += (requests >= self._room[instance]) - (before >= self._room[instance])
        self.put(instance, self._load(instance, requests))

    def _load(self, instance: int, requests: float) -> float:
        if self._alike:
            return requests
        load = (requests + 1.0) * self._slowness[instance] - 1.0
        return load if requests < self._room[instance] else load + _FULL

    def work(self, instance: int) -> float:
        """The load, full or not."""
        load = self.loads[instance]
        return load - _FULL if not self._alike and self.is_full(instance) else load

    def is_full(self, instance: int) -> bool:
        """Whether nobody else finds room there."""
        return self._requests[instance] >= self._room[instance]


class PooledAffinity(Affinity):
    """``Affinity`` that compares the seconds until a prompt would be whole, and who is full by kind."""

    def __init__(
        self,
        loads: PooledLoads,
        backlog_tokens: list[float],
        index: PrefixIndex,
        block_size: int,
        guard: float,
        slack: float,
        num_candidates: int,
        slowness: Sequence[float],
    ) -> None:
        super().__init__(loads, backlog_tokens, index, block_size, guard, slack, num_candidates)
        self._slowness, self._pooled = list(slowness), loads
        self._prompt_tokens = 0

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        self._prompt_tokens = prompt_tokens
        return super().choose(path, prompt_tokens, session_id)

    def _cheapest(self, found: Sequence[Holder]) -> int:
        """As ``Affinity``, the tokens to compute times what one of them is worth there."""
        backlog_tokens, block_size = self._backlog_tokens, self._block_size
        most = self._guard * self._loads.mean + self._slack
        somebody_has_room = not self._pooled.is_full(found[0][0])
        best, least_cost = -1, 0.0
        for instance, blocks in found:
            factor = self._slowness[instance]
            # The prompt on the fastest kind, which all pay alike, is left out: equal kinds are told apart as ever.
            cost = (backlog_tokens[instance] - blocks * block_size) * factor + self._prompt_tokens * (factor - 1.0)
            may_take = self._pooled.work(instance) <= most and not (
                somebody_has_room and self._pooled.is_full(instance)
            )
            if best < 0 or (cost < least_cost and may_take):
                best, least_cost = instance, cost
        return best


class HoldingRouter:
    """Another router's choice; where blocks of that instance do not hold the request, the least loaded of those whose
    do."""

    def __init__(self, own: PrefillRouter, loads: Loads, settings: Sequence[EngineSettings]) -> None:
        """``settings``: of each instance."""
        self.own = own
        self._loads, self._settings = loads, list(settings)
        self._kinds = list(dict.fromkeys(settings))
        self._num_tokens = 0

    def can_hold(self, num_tokens: int) -> bool:
        """Whether some instance holds a request of so many tokens, which is the one that will be routed next."""
        self._num_tokens = num_tokens
        return any(settings.fits(num_tokens) for settings in self._kinds)

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        instance = self.own.choose(path, prompt_tokens, session_id)
        if self._settings[instance].fits(self._num_tokens):
            return instance
        fitting = [place for place, own in enumerate(self._settings) if own.fits(self._num_tokens)]
        return min(fitting, key=self._loads.loads.__getitem__)
