"""The tiers below instances as a router sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from kvsim.sim.routing.prefix_index import Path, PrefixIndex

Holder = tuple[int, float]
"""An instance, and how many blocks of a prompt's head it has; what it can load counts for so many blocks."""


class Waits(Protocol):
    """How long loads of one instance have to wait."""

    def wait_s(self, place: int, chain: int) -> float:
        """Seconds until a load of that chain from the instance's tier at that place would begin."""


class RoutingTierView:
    """How much of a prompt the tiers in each instance's reach have.

    An estimate, from counts: of the deepest chain of the prompt that any tier has, a tier is taken to have the first
    chunks, and what comes before that chain.
    """

    def __init__(
        self,
        copies: Callable[[int], dict[int, int]],
        reach: list[list[tuple[int, float]]],
        waits: Sequence[Waits],
        chunk_blocks: int,
        block_s: float,
    ) -> None:
        """``copies(chain)``: by tier, how many of its chunks that has. ``reach``: of each instance the tiers it loads
        from, the nearest first, and how much of computing a token a load from there saves, from 0 to 1. ``waits``: of
        each instance. ``block_s``: what computing a block takes.
        """
        self._copies, self._reach, self._chunk_blocks = copies, reach, chunk_blocks
        self._waits, self._block_s = waits, block_s
        members: dict[int, list[int]] = {}
        for instance, tiers in enumerate(reach):
            for tier, _ in tiers:
                members.setdefault(tier, []).append(instance)
        self._members = {tier: found for tier, found in members.items() if len(found) < len(reach)}
        """The instances that reach a tier, for tiers that not everybody reaches."""

    def reached(
        self,
        path: Path,
        limit: int,
        found: list[tuple[int, int]],
        index: PrefixIndex,
        loads: Sequence[float],
        most: int,
    ) -> list[Holder]:
        """The holders ``found``, each with what its tiers add, and where none of them has all that tiers have, the
        least loaded instance at each of the latest ``most`` tiers.
        """
        chain, first, end = self._deepest(path, limit - limit % self._chunk_blocks)
        if chain < 0:
            return [(instance, float(blocks)) for instance, blocks in found]
        if all(blocks < end for _, blocks in found):
            known = {instance for instance, _ in found}
            for instance in self._nearby(chain, loads, most):
                if instance not in known:
                    known.add(instance)
                    found.append((instance, index.matched(instance, path, limit)))
        copies = self._copies(chain)
        return [
            (instance, self._saved_blocks(instance, blocks, chain, copies, first, end)) for instance, blocks in found
        ]

    def _nearby(self, chain: int, loads: Sequence[float], most: int) -> list[int]:
        """The least loaded instance at each of the latest ``most`` tiers that have some of a chain."""
        found: list[int] = []
        for tier in reversed(self._copies(chain)):
            members = self._members.get(tier)
            if members is not None:
                found.append(min(members, key=loads.__getitem__))
                if len(found) == most:
                    break
        return found

    def _deepest(self, path: Path, limit: int) -> tuple[int, int, int]:
        """The deepest chain that any tier has any of, and its blocks, at most to ``limit``."""
        for chain, first, end in reversed(path):
            if first < limit and chain >= 0 and self._copies(chain):
                return chain, first, min(end, limit)
        return -1, 0, 0

    def _saved_blocks(
        self, instance: int, blocks: int, chain: int, copies: dict[int, int], first: int, end: int
    ) -> float:
        """Blocks that an instance has, and those that loads save it: each tier gives what it has beyond the nearer
        ones, all at the same time, down to whichever pays.
        """
        if blocks >= end:
            return float(blocks)
        covered, saved, wait, best = blocks, 0.0, 0.0, 0.0
        for place, (tier, share) in enumerate(self._reach[instance]):
            count = copies.get(tier, 0)
            if count:
                top = min((first // self._chunk_blocks + count) * self._chunk_blocks, end)
                if top > covered:
                    saved += share * (top - covered)
                    wait = max(wait, self._waits[instance].wait_s(place, chain) / self._block_s)
                    covered = top
                    best = max(best, saved - wait)
        return blocks + best
