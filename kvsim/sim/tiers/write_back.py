"""Chunks that leave an engine's cache go down to the first tier; what was never evicted is never written."""

from __future__ import annotations

from itertools import count

from kvsim.sim.engine.block_table import Path
from kvsim.sim.tiers.chunks import Run
from kvsim.sim.tiers.hierarchy import TierHierarchy

_STRANGERS = 1 << 40
"""Chains from here on stand for content of one request, which nobody will ask for by name."""


class WriteBack:
    """Knows which blocks of each chain an engine has had, to name the chunks that it evicts."""

    def __init__(self, hierarchy: TierHierarchy, chunk_blocks: int) -> None:
        self._hierarchy, self._chunk_blocks = hierarchy, chunk_blocks
        self._extents: dict[tuple[int, int], tuple[int, int]] = {}
        """By engine and chain: the block of the sequence that it begins with, and how many of its blocks are there."""
        self._strange_blocks: dict[int, int] = {}
        """By engine: evicted blocks of one request that make no whole chunk yet."""
        self._strangers = count(_STRANGERS)
        self.is_off = False
        """Power is off: what leaves an engine's cache is lost."""

    def entered(self, instance: int, path: Path, blocks: int) -> None:
        """The first ``blocks`` blocks of a path are in an engine's cache."""
        for chain, first, end in path:
            if first >= blocks or chain < 0:
                return
            size = min(end, blocks) - first
            if self._extents.get((instance, chain), (first, 0))[1] < size:
                self._extents[instance, chain] = (first, size)

    def evicted(self, instance: int, chain: int, cached: int) -> None:
        """Only ``cached`` blocks of a chain are left; with a negative chain: so many blocks of single requests went."""
        size = self._chunk_blocks
        if chain < 0:
            blocks = self._strange_blocks.get(instance, 0) + cached
            self._strange_blocks[instance] = blocks % size
            self._store(instance, [(-next(self._strangers), 0, 1) for _ in range(blocks // size)])
            return
        first, known = self._extents.get((instance, chain), (0, 0))
        if known > cached:
            if cached:
                self._extents[instance, chain] = (first, cached)
            else:
                del self._extents[instance, chain]
            place, end = (first + cached) // size, (first + known) // size
            self._store(instance, [(chain, place, end)] if place < end else [])

    def _store(self, instance: int, runs: list[Run]) -> None:
        if runs and not self.is_off:
            self._hierarchy.connectors[instance].store(runs, self._hierarchy.stray)
