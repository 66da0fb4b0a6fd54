"""Where a prompt is computed: the routers of prefill and colocated instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kvsim.sim.keep_last import keep_last
from kvsim.sim.routing.loads import Loads
from kvsim.sim.routing.prefix_index import Path, PrefixIndex
from kvsim.sim.routing.tier_view import Holder, RoutingTierView


class PrefillRouter(Protocol):
    """Chooses an instance; it sees loads and the prefix index, never the instances."""

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        """The instance that will compute this prompt."""


class RoundRobin:
    """One after the other."""

    def __init__(self, loads: Loads) -> None:
        self._loads, self._num = loads, len(loads.loads)
        self._next = -1

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        self._next = self._loads.after(self._next)
        return self._next


class LeastLoaded:
    """The least loaded of all."""

    def __init__(self, loads: Loads) -> None:
        self._loads = loads

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        return self._loads.least()


class TwoChoices:
    """The less loaded of two at random (Mitzenmacher 2001); where neither is in service, the least loaded of all."""

    def __init__(self, loads: Loads, generator: np.random.Generator) -> None:
        self._loads, self._num = loads, len(loads.loads)
        self._generator = generator
        self._drawn: list[int] = []

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        if not self._drawn:
            self._drawn = self._generator.integers(0, self._num, 4096).tolist()
        first, second = self._drawn.pop(), self._drawn.pop()
        loads = self._loads.loads
        if loads[second] < loads[first]:
            first = second
        return first if loads[first] < math.inf else self._loads.least()


class Affinity:
    """Follow the session and the longest cached prefix, unless that instance is overloaded.

    Among the session's last instance, a few holders of the longest known prefix and the least loaded one, take the one
    with the fewest tokens to compute before this prompt's end: its backlog and the uncached part of the prompt. An
    instance with more than ``guard`` x the mean load, plus ``slack``, is left out, and so is one without a free seat
    while another has one. With ``tier_view``, what an instance can load counts for as much as loading spares it, and
    instances next to the tiers that have most are compared too.
    """

    def __init__(
        self,
        loads: Loads,
        backlog_tokens: list[float],
        index: PrefixIndex,
        block_size: int,
        guard: float,
        slack: float,
        num_candidates: int,
        tier_view: RoutingTierView | None = None,
        seats: float = math.inf,
    ) -> None:
        """``seats``: the load at which an instance has none left."""
        self._loads, self._backlog_tokens, self._index = loads, backlog_tokens, index
        self._block_size, self._guard, self._slack = block_size, guard, slack
        self._num_candidates, self._tier_view, self._seats = num_candidates, tier_view, seats
        self._session_at: dict[int, int] = {}

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        best = self._loads.least()
        if path[0][0] < 0:
            return best
        index = self._index
        limit = (prompt_tokens - 1) // self._block_size
        found = index.holders(path, limit, self._num_candidates)
        last = self._session_at.get(session_id, best)
        if last != best:
            found.append((last, index.matched(last, path, limit)))
        if found or self._tier_view is not None:
            found.insert(0, (best, index.matched(best, path, limit)))
            holders: Sequence[Holder] = found
            if self._tier_view is not None:
                holders = self._tier_view.reached(path, limit, found, index, self._loads.loads, self._num_candidates)
            best = self._cheapest(holders)
        if session_id >= 0:
            self._session_at.pop(session_id, None)
            self._session_at[session_id] = best
        return best

    def forget(self, most: int) -> None:
        """Keep at most so many sessions, those that came last."""
        keep_last(self._session_at, most)

    def _cheapest(self, found: Sequence[Holder]) -> int:
        """The instance of ``found`` (instances, and the blocks each has of a prompt) with the fewest tokens to compute
        before the prompt's end. The first, the least loaded, is allowed in any case, and taken where others cost as
        much.
        """
        loads, backlog_tokens, block_size = self._loads.loads, self._backlog_tokens, self._block_size
        most = self._guard * self._loads.mean + self._slack
        seats = self._seats if loads[found[0][0]] < self._seats else math.inf
        best, least_cost = -1, 0.0
        for instance, blocks in found:
            cost = backlog_tokens[instance] - blocks * block_size
            if best < 0 or (cost < least_cost and loads[instance] <= most and loads[instance] < seats):
                best, least_cost = instance, cost
        return best
