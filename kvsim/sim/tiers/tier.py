"""One tier below the GPUs' memory: which chunks it holds, and whom a new one displaces. It knows no time."""

from __future__ import annotations

from kvsim.policy.eviction import Access
from kvsim.sim.tiers.chunk_directory import ChunkDirectory
from kvsim.sim.tiers.chunks import Run


class Tier:
    """``capacity_chunks`` chunks, with books that must balance.

    An ``Access`` that is handed in says who asks and when; the tier fills in which chunk of the prompt it is.
    """

    __slots__ = (
        "_directory",
        "capacity_chunks",
        "discarded",
        "evicted",
        "heads_first",
        "is_off",
        "name",
        "number",
        "refused",
        "stored",
    )

    def __init__(self, name: str, capacity_chunks: int, number: int, directory: ChunkDirectory | None) -> None:
        """``number``: what ``directory``, which many tiers share, knows this one by."""
        self.name, self.capacity_chunks, self.number, self._directory = name, capacity_chunks, number, directory
        self.stored = self.refused = self.evicted = self.discarded = 0
        self.is_off = False
        """Whether nothing may come in for the time being."""
        self.heads_first = False
        """Whether a prompt's chunks are touched and taken in from its head on; by default its tail comes first."""

    def __len__(self) -> int:
        raise NotImplementedError

    def held_to(self, chain: int, place: int, end: int) -> int:
        """How far from ``place`` on, at most to ``end``, all chunks are here: ``place`` where that one is not."""
        raise NotImplementedError

    def usable_to(self, chain: int, place: int, end: int, access: Access) -> int:
        """``held_to`` for somebody who wants to use the chunks; those that are too old for that leave."""
        return self.held_to(chain, place, end)

    def absent_to(self, chain: int, place: int, end: int) -> int:
        """How far from ``place`` on, at most to ``end``, none is here."""
        raise NotImplementedError

    def use(self, runs: list[Run], access: Access) -> list[Run]:
        """Touch those of a prompt's chunks that are here, the last first (unless ``heads_first``); return the others,
        in order.
        """
        raise NotImplementedError

    def admitted(self, runs: list[Run], access: Access) -> list[Run]:
        """The part of ``runs``, which are not here, that may come in: asked before they are sent."""
        return runs

    def refuse(self, runs: list[Run]) -> None:
        """Chunks that were let in do not come after all."""
        self.note_refused(runs)

    def note_refused(self, runs: list[Run]) -> None:
        """Note that chunks which were to come in do not."""
        for chain, _, end in runs:
            if chain >= 0 and self._directory is not None:
                self._directory.refused(chain, end)

    def store(self, runs: list[Run], access: Access) -> list[Run]:
        """Take chunks of one prompt in, the last first (unless ``heads_first``), those that are here already left out;
        returns those displaced, in the order in which they went, of each run the last chunk first.
        """
        victims: list[Run] = []
        last = len(runs) - 1
        for place in range(last + 1):
            self._store(runs[place if self.heads_first else last - place], access, victims)
        for chain, first, end in victims:
            self._let_go(chain, end - first)
        return victims

    def is_coming(self, chain: int, place: int) -> bool:
        """Whether that chunk has room here and is still being written, where a tier takes note of that."""
        return False

    def is_moving(self) -> bool:
        """Whether chunks are being written or read that could go otherwise, where a tier takes note of that."""
        return False

    def pin(self, runs: list[Run], access: Access) -> None:
        """Chunks that are here are being read, until they are unpinned."""

    def unpin(self, runs: list[Run]) -> None:
        """Chunks have been read."""

    def ended(self, access: Access) -> None:
        """The request that asked has its answer."""

    def discard(self, runs: list[Run]) -> None:
        """Let those of ``runs`` that are here go: to another tier, or lost."""
        raise NotImplementedError

    def lose_all(self) -> None:
        """Lose everything: power off."""
        raise NotImplementedError

    def check_integrity(self) -> None:
        """Assert that what came and has not left is here, and fits."""
        here = self.stored - self.evicted - self.discarded
        assert here == len(self), (self.name, here, len(self))
        assert here <= self.capacity_chunks, (self.name, here, self.capacity_chunks)

    def _store(self, run: Run, access: Access, victims: list[Run]) -> None:
        """Take in what is not here of a run; who goes for it is added to ``victims``."""
        raise NotImplementedError

    def _came(self, chain: int, first: int, end: int) -> None:
        self.stored += end - first
        if chain >= 0 and self._directory is not None:
            self._directory.came(chain, self.number, first, end)

    def _let_go(self, chain: int, count: int) -> None:
        """Note chunks that are evicted."""
        self.evicted += count
        if chain >= 0 and self._directory is not None:
            self._directory.left(chain, self.number, count)

    def _went(self, chain: int, count: int) -> None:
        """Note chunks that are discarded, not evicted."""
        self.discarded += count
        if chain >= 0 and self._directory is not None:
            self._directory.left(chain, self.number, count)
