"""The directory of shared chunks: how many of each chain every tier of a cluster has."""

from __future__ import annotations

_NOBODY: dict[int, int] = {}


class _Copies:
    """What tiers have, and ever had, of one chain."""

    __slots__ = ("chunks", "refused_end", "written_end")

    def __init__(self) -> None:
        self.chunks: dict[int, int] = {}
        """By tier that has any: how many chunks of the chain it has."""
        self.written_end = 0
        """The place behind the last chunk that any tier ever had."""
        self.refused_end = 0
        """The place behind the last chunk that a tier did not take."""


class ChunkDirectory:
    """Told by every tier what it takes in and lets go; of chains that requests share alone."""

    __slots__ = ("_chains",)

    def __init__(self) -> None:
        self._chains: dict[int, _Copies] = {}

    def came(self, chain: int, tier: int, first: int, end: int) -> None:
        """Note that a tier has the chunks ``[first, end)`` of a chain now."""
        copies = self._of(chain)
        if end > copies.written_end:
            copies.written_end = end
        copies.chunks[tier] = copies.chunks.get(tier, 0) + end - first

    def refused(self, chain: int, end: int) -> None:
        """Chunks of a chain up to that place were to be written somewhere, and were not."""
        copies = self._of(chain)
        if end > copies.refused_end:
            copies.refused_end = end

    def lost(self, chain: int, end: int) -> None:
        """Chunks of a chain up to that place were written, and gone before they had arrived anywhere."""
        if chain >= 0:
            copies = self._of(chain)
            if end > copies.written_end:
                copies.written_end = end

    def left(self, chain: int, tier: int, count: int) -> None:
        """Note that a tier has ``count`` chunks of a chain fewer."""
        chunks = self._chains[chain].chunks
        left = chunks[tier] - count
        if left:
            chunks[tier] = left
        else:
            del chunks[tier]

    def forget(self, most: int) -> None:
        """Keep at most so many of the chains that no tier has anything of, those that came last."""
        gone = [chain for chain, copies in self._chains.items() if not copies.chunks]
        for chain in gone[: max(0, len(gone) - most)]:
            del self._chains[chain]

    def written_end(self, chain: int) -> int:
        """The place behind the last chunk of the chain that any tier ever had; 0 where none did."""
        copies = self._chains.get(chain)
        return 0 if copies is None else copies.written_end

    def refused_end(self, chain: int) -> int:
        """The place behind the last chunk of the chain that a tier did not take; 0 where all took all."""
        copies = self._chains.get(chain)
        return 0 if copies is None else copies.refused_end

    def holders(self, chain: int) -> dict[int, int]:
        """The tiers that have any of its chunks, the latest to get the first one last, and how many."""
        copies = self._chains.get(chain)
        return _NOBODY if copies is None else copies.chunks

    def _of(self, chain: int) -> _Copies:
        copies = self._chains.get(chain)
        if copies is None:
            copies = self._chains[chain] = _Copies()
        return copies
