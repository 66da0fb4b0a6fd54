"""A tier by the rules of vLLM's own offloading: room is taken when a write begins, recency is told when a request ends.

Source: vLLM 0.32, ``CPUOffloadingManager`` and ``LRUCachePolicy``; ``tests/vllm/record_offload.py`` records both.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from kvsim.policy.eviction import Access
from kvsim.sim.tiers.chunk_directory import ChunkDirectory
from kvsim.sim.tiers.chunks import Run, chunk_chain, chunk_key, chunk_keys, chunk_place, runs_of
from kvsim.sim.tiers.tier import Tier

_COMING: Final = -1
"""What is known of a chunk that is being written; of one that is here: how many loads read it."""


class OffloadTier(Tier):
    """Least recently used goes first, where a request uses all that it loaded or offered when it ends, its head last.

    A chunk that is being written takes room and cannot be hit; neither it nor one that is being read can be evicted.
    What does not fit at once is not written at all.
    """

    __slots__ = ("_chunks", "_coming", "_offered", "_pins", "_seen")

    def __init__(
        self, name: str, capacity_chunks: int, number: int = 0, directory: ChunkDirectory | None = None
    ) -> None:
        super().__init__(name, capacity_chunks, number, directory)
        self._chunks: OrderedDict[int, int] = OrderedDict()
        """By name, the least recently used first."""
        self._coming = self._pins = 0
        """Chunks that are being written, and loads of single chunks."""
        self._offered: set[int] = set()
        """Chunks that are offered at once, until what is missing of them is let in: none of them goes for another."""
        self._seen: dict[int, dict[int, int]] = {}
        """By request that has not ended: the chunks it uses, and their places."""

    def __len__(self) -> int:
        return len(self._chunks) - self._coming

    @property
    def taken(self) -> int:
        """Chunks that have room here: those that are being written, too."""
        return len(self._chunks)

    def held_to(self, chain: int, place: int, end: int) -> int:
        while place < end and self._chunks.get(chunk_key(chain, place), _COMING) != _COMING:
            place += 1
        return place

    def absent_to(self, chain: int, place: int, end: int) -> int:
        while place < end and self._chunks.get(chunk_key(chain, place), _COMING) == _COMING:
            place += 1
        return place

    def use(self, runs: list[Run], access: Access) -> list[Run]:
        missing: list[int] = []
        keys = chunk_keys(runs)
        for key in keys:
            loads = self._chunks.get(key)
            if loads is None:
                missing.append(key)
            elif loads != _COMING:
                self._see(key, access)
        if missing:
            self._offered = set(keys)
        return runs_of(missing)

    def admitted(self, runs: list[Run], access: Access) -> list[Run]:
        keys = [key for key in chunk_keys(runs) if key not in self._chunks]
        for key in keys:
            if key in self._offered:
                self._see(key, access)
        excess = len(self._chunks) + len(keys) - self.capacity_chunks
        has_room = excess <= 0 or self._evict(excess)
        self._offered = set()
        if not has_room:
            self.refused += len(keys)
            self.note_refused(runs)
            return []
        for key in keys:
            self._chunks[key] = _COMING
        self._coming += len(keys)
        return runs_of(keys)

    def refuse(self, runs: list[Run]) -> None:
        for key in chunk_keys(runs):
            if self._chunks.get(key) == _COMING:
                del self._chunks[key]
                self._coming -= 1
        self.note_refused(runs)

    def is_coming(self, chain: int, place: int) -> bool:
        return self._chunks.get(chunk_key(chain, place), 0) == _COMING

    def is_moving(self) -> bool:
        return self._coming + self._pins > 0

    def pin(self, runs: list[Run], access: Access) -> None:
        for key in chunk_keys(runs):
            self._chunks[key] += 1
            self._pins += 1
            self._see(key, access)

    def unpin(self, runs: list[Run]) -> None:
        for key in chunk_keys(runs):
            if self._chunks.get(key, 0) > 0:
                self._chunks[key] -= 1
                self._pins -= 1

    def ended(self, access: Access) -> None:
        seen = self._seen.pop(access.index, None)
        if seen is None:
            return
        for key in sorted(seen, key=seen.__getitem__, reverse=True):
            if key in self._chunks:
                self._chunks.move_to_end(key)

    def discard(self, runs: list[Run]) -> None:
        for key in chunk_keys(runs):
            loads = self._chunks.pop(key, None)
            if loads == _COMING:
                self._coming -= 1
            elif loads is not None:
                self._pins -= loads
                self._went(chunk_chain(key), 1)

    def lose_all(self) -> None:
        self.discard(runs_of(list(self._chunks)))

    def _store(self, run: Run, access: Access, victims: list[Run]) -> None:
        chain, first, end = run
        for place in range(first, end):
            key = chunk_key(chain, place)
            if self._chunks.get(key) == _COMING:
                self._chunks[key] = 0
                self._coming -= 1
                self._came(chain, place, place + 1)

    def _see(self, key: int, access: Access) -> None:
        seen = self._seen.get(access.index)
        if seen is None:
            seen = self._seen[access.index] = {}
        seen[key] = chunk_place(key)

    def _evict(self, count: int) -> bool:
        """Let ``count`` chunks go; returns whether that can be, and lets nobody go if not."""
        victims: list[int] = []
        for key, loads in self._chunks.items():
            if loads == 0 and key not in self._offered:
                victims.append(key)
                if len(victims) == count:
                    break
        if len(victims) < count:
            return False
        for key in victims:
            del self._chunks[key]
            self._let_go(chunk_chain(key), 1)
        return True
