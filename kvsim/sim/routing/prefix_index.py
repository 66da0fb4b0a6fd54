"""How much of a prefix each instance holds, as routers know it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

_SIZE_BITS: Final = 32
_SIZE: Final = (1 << _SIZE_BITS) - 1

Path = tuple[tuple[int, int, int], ...]
"""Entries ``(chain, first_block, end_block)``, as in ``kvsim.sim.engine.paged``."""


class PrefixIndex:
    """chain -> instance -> blocks of the chain computed and still cached there. Chains of one request are not kept.

    Most chains are on one instance: those have one number, of the instance and the blocks, instead of a table.
    """

    def __init__(self, refresh: Callable[[int], None] | None = None) -> None:
        """``refresh(instance)`` is called before what that one holds is told: it may not have said yet what it has
        evicted.
        """
        self._holders: dict[int, int | dict[int, int]] = {}
        """By chain: its holders, in the order in which they came; a lone one as ``_lone``."""
        self._evictions = 0
        self._refresh = refresh

    def computed(self, instance: int, path: Path, blocks: int) -> None:
        """The first ``blocks`` blocks of a sequence with this path are computed on ``instance``."""
        for chain, first, end in path:
            if first >= blocks or chain < 0:
                return
            size = (end if end < blocks else blocks) - first
            holders = self._holders.get(chain)
            if holders is None:
                self._holders[chain] = instance << _SIZE_BITS | size
            elif isinstance(holders, int):
                if holders >> _SIZE_BITS != instance:
                    self._holders[chain] = {holders >> _SIZE_BITS: holders & _SIZE, instance: size}
                elif holders & _SIZE < size:
                    self._holders[chain] = instance << _SIZE_BITS | size
            elif holders.get(instance, 0) < size:
                holders[instance] = size

    def evicted(self, instance: int, chain: int, blocks: int) -> None:
        """Only ``blocks`` blocks of ``chain`` are left on ``instance``."""
        if self._blocks(chain, instance) <= blocks:
            return
        self._evictions += 1
        holders = self._holders[chain]
        if isinstance(holders, int):
            if blocks:
                self._holders[chain] = instance << _SIZE_BITS | blocks
            else:
                del self._holders[chain]
        elif blocks:
            holders[instance] = blocks
        else:
            del holders[instance]
            if not holders:
                del self._holders[chain]

    def knows(self, chain: int) -> bool:
        """Whether any instance has anything of a chain."""
        return chain in self._holders

    def forget(self, most: int, is_cached: Callable[[int, int], bool]) -> None:
        """Where more than so many chains are known, keep those alone that ``is_cached(instance, chain)`` says are."""
        if len(self._holders) <= most:
            return
        for chain, holders in list(self._holders.items()):
            if isinstance(holders, int):
                if not is_cached(holders >> _SIZE_BITS, chain):
                    del self._holders[chain]
                continue
            for instance in [instance for instance in holders if not is_cached(instance, chain)]:
                del holders[instance]
            if not holders:
                del self._holders[chain]

    def matched(self, instance: int, path: Path, limit: int) -> int:
        """Blocks of the path's head, at most ``limit``, that ``instance`` holds."""
        if self._refresh is not None:
            self._refresh(instance)
        total = 0
        for chain, first, end in path:
            found = self._blocks(chain, instance)
            if found < end - first or end > limit:
                return total + min(found, limit - first) if limit > first else total
            total += end - first
        return total

    def holders(self, path: Path, limit: int, most: int) -> list[tuple[int, int]]:
        """Up to ``most`` holders of the deepest chain of the path that anyone holds, latest first.

        Each with the blocks of the path's head, at most ``limit``, that it holds: whoever has blocks of a chain has
        what comes before it.
        """
        for place in range(len(path) - 1, -1, -1):
            chain, first, end = path[place]
            if first >= limit or chain not in self._holders:
                continue
            if self._refresh is not None:
                self._refresh_latest(chain, most)
            found = self._latest(chain, first, end if end < limit else limit, most)
            if found:
                return found
        return []

    def _blocks(self, chain: int, instance: int) -> int:
        """Blocks of a chain that an instance holds."""
        holders = self._holders.get(chain)
        if holders is None:
            return 0
        if isinstance(holders, int):
            return holders & _SIZE if holders >> _SIZE_BITS == instance else 0
        return holders.get(instance, 0)

    def _latest(self, chain: int, first: int, end: int, most: int) -> list[tuple[int, int]]:
        """The latest ``most`` holders of a chain, whose blocks are ``[first, end)`` of a path, and how much of the path
        each holds."""
        holders = self._holders.get(chain)
        found: list[tuple[int, int]] = []
        if holders is None or not most:
            return found
        if isinstance(holders, int):
            held = first + (holders & _SIZE)
            found.append((holders >> _SIZE_BITS, held if held < end else end))
            return found
        for instance in islice(reversed(holders), most):
            held = first + holders[instance]
            found.append((instance, held if held < end else end))
        return found

    def _refresh_latest(self, chain: int, most: int) -> None:
        """Have the latest ``most`` holders of a chain say what they have evicted."""
        assert self._refresh is not None
        evictions = -1
        while evictions != self._evictions:
            evictions = self._evictions
            for instance, _ in self._latest(chain, 0, 0, most):
                self._refresh(instance)


class StaleIndex(PrefixIndex):
    """What ``PrefixIndex`` knew some time ago: news of the caches arrive late, in their order."""

    def __init__(
        self, staleness_s: float, now: Callable[[], float], refresh: Callable[[int], None] | None = None
    ) -> None:
        """``now()`` is the simulated time in seconds."""
        super().__init__(refresh)
        self._staleness_s, self._now = staleness_s, now
        self._news: deque[tuple[float, int, Path, int, int]] = deque()
        """When it is known, the instance, and either a path computed up to so many blocks or a chain cut to them."""

    def computed(self, instance: int, path: Path, blocks: int) -> None:
        self._catch_up()
        self._news.append((self._now() + self._staleness_s, instance, path, -1, blocks))

    def evicted(self, instance: int, chain: int, blocks: int) -> None:
        self._catch_up()
        self._news.append((self._now() + self._staleness_s, instance, (), chain, blocks))

    def matched(self, instance: int, path: Path, limit: int) -> int:
        self._catch_up()
        return super().matched(instance, path, limit)

    def holders(self, path: Path, limit: int, most: int) -> list[tuple[int, int]]:
        self._catch_up()
        return super().holders(path, limit, most)

    def _catch_up(self) -> None:
        news, now = self._news, self._now()
        while news and news[0][0] <= now:
            _, instance, path, chain, blocks = news.popleft()
            if chain < 0:
                super().computed(instance, path, blocks)
            else:
                super().evicted(instance, chain, blocks)
