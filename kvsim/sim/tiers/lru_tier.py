"""A tier that lets the least recently used chunks go, kept as runs: what one prompt touched together stays together.

Of what one prompt touched the tail counts as older than the head, and goes first: a tail is of no use without its
head. LMCache and vLLM's offloading touch the chunks of a prompt in reverse too.
"""

from __future__ import annotations

from bisect import bisect_right

from kvsim.policy.eviction import Access
from kvsim.sim.tiers.chunk_directory import ChunkDirectory
from kvsim.sim.tiers.chunks import Run
from kvsim.sim.tiers.tier import Tier


class Piece:
    """Chunks ``[first, end)`` of one chain that were used one after the other, the last one first."""

    __slots__ = ("chain", "end", "first", "newer", "older")

    def __init__(self, chain: int, first: int, end: int) -> None:
        self.chain, self.first, self.end = chain, first, end
        self.older = self.newer = self
        """Neighbours in the order of use."""


class LruTier(Tier):
    """Evicts chunk for chunk as ``kvsim.policy.eviction.lru`` does, in the time that runs take."""

    __slots__ = ("_chains", "_ends", "_held")

    def __init__(
        self, name: str, capacity_chunks: int, number: int = 0, directory: ChunkDirectory | None = None
    ) -> None:
        super().__init__(name, capacity_chunks, number, directory)
        self._ends = Piece(-1, 0, 0)
        """Before the oldest and after the newest piece."""
        self._chains: dict[int, list[Piece]] = {}
        """The pieces of each chain that can be asked for again, by place."""
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def held_to(self, chain: int, place: int, end: int) -> int:
        for piece in self._chains.get(chain, ()):
            if piece.first > place:
                break
            if piece.end > place:
                place = piece.end
            if place >= end:
                return end
        return place

    def absent_to(self, chain: int, place: int, end: int) -> int:
        for piece in self._chains.get(chain, ()):
            if piece.end > place:
                return max(place, min(piece.first, end))
        return end

    def use(self, runs: list[Run], access: Access) -> list[Run]:
        missing: list[Run] = []
        for place in range(len(runs) - 1, -1, -1):
            run = runs[place]
            pieces = self._chains.get(run[0])
            if pieces is None:
                missing.append(run)
            else:
                self._use(run, pieces, missing)
        missing.reverse()
        return missing

    def discard(self, runs: list[Run]) -> None:
        for chain, first, end in runs:
            for piece in self._touched(self._chains.get(chain, []), first, end):
                self._lose(piece)

    def lose_all(self) -> None:
        while self._ends.newer is not self._ends:
            self._lose(self._ends.newer)

    def _lose(self, piece: Piece) -> None:
        self._went(piece.chain, piece.end - piece.first)
        self._held -= piece.end - piece.first
        self._drop(piece)

    def _use(self, run: Run, pieces: list[Piece], missing: list[Run]) -> None:
        """What is not here is added to ``missing``, the last first."""
        chain, first, end = run
        found = self._touched(pieces, first, end)
        for place in range(len(found) - 1, -1, -1):
            piece = found[place]
            if piece.end < end:
                missing.append((chain, piece.end, end))
            end = piece.first
            _unlink(piece)
            self._append(piece)
        if first < end:
            missing.append((chain, first, end))

    def _touched(self, pieces: list[Piece], first: int, end: int) -> list[Piece]:
        """The pieces of a chain between two places, by place; one that reaches beyond is cut."""
        if len(pieces) == 1 and first <= pieces[0].first and pieces[0].end <= end:
            return pieces[:]
        found: list[Piece] = []
        for piece in pieces[:]:
            if piece.end <= first or piece.first >= end:
                continue
            if piece.first < first:
                piece = self._cut(piece, first)
            if piece.end > end:
                self._cut(piece, end)
            found.append(piece)
        return found

    def _cut(self, piece: Piece, place: int) -> Piece:
        """Two of one, the second, which is returned, used right before the first."""
        rest = Piece(piece.chain, place, piece.end)
        piece.end = place
        rest.older, rest.newer = piece.older, piece
        piece.older.newer = rest
        piece.older = rest
        self._enter(rest)
        return rest

    def _enter(self, piece: Piece) -> None:
        pieces = self._chains.get(piece.chain)
        if pieces is None:
            self._chains[piece.chain] = [piece]
        else:
            pieces.insert(bisect_right(pieces, piece.first, key=_first), piece)

    def _append(self, piece: Piece) -> None:
        """Used last; where what was used before it goes on from it, the two become one."""
        ends = self._ends
        last = ends.older
        if last.chain == piece.chain and last.first == piece.end and last is not ends:
            self._leave_chain(piece)
            last.first = piece.first
            return
        piece.older, piece.newer = last, ends
        last.newer = ends.older = piece

    def _leave_chain(self, piece: Piece) -> None:
        pieces = self._chains.get(piece.chain)
        if pieces is not None:
            pieces.remove(piece)
            if not pieces:
                del self._chains[piece.chain]

    def _drop(self, piece: Piece) -> None:
        _unlink(piece)
        self._leave_chain(piece)

    def _store(self, run: Run, access: Access, victims: list[Run]) -> None:
        chain, first, end = run
        if chain not in self._chains:
            self._admit(chain, first, end, victims)
            return
        while first < end:
            start, stop = self._last_gap(chain, first, end)
            if start < stop:
                self._admit(chain, start, stop, victims)
            end = start

    def _last_gap(self, chain: int, first: int, end: int) -> tuple[int, int]:
        """The last chunks between two places that are not here; none, at ``first``, where all are."""
        for piece in reversed(self._chains.get(chain, [])):
            if piece.end < end:
                return (piece.end if piece.end > first else first), end
            if piece.first < end:
                end = piece.first
                if end <= first:
                    return first, first
        return first, end

    def _admit(self, chain: int, first: int, end: int, victims: list[Run]) -> None:
        """Chunks that are not here; of more than there is room for the last go at once."""
        self._came(chain, first, end)
        kept = min(end - first, self.capacity_chunks)
        self._make_room(kept, victims)
        if first + kept < end:
            victims.append((chain, first + kept, end))
            end = first + kept
        self._held += kept
        last = self._ends.older
        if last.chain == chain and last.first == end and last is not self._ends:
            last.first = first
            return
        piece = Piece(chain, first, end)
        if chain >= 0:
            self._enter(piece)
        self._append(piece)

    def _make_room(self, count: int, victims: list[Run]) -> None:
        missing = self._held + count - self.capacity_chunks
        while missing > 0:
            oldest = self._ends.newer
            taken = min(missing, oldest.end - oldest.first)
            victims.append((oldest.chain, oldest.end - taken, oldest.end))
            missing -= taken
            self._held -= taken
            if oldest.first + taken == oldest.end:
                self._drop(oldest)
            else:
                oldest.end -= taken


def _first(piece: Piece) -> int:
    return piece.first


def _unlink(piece: Piece) -> None:
    piece.older.newer, piece.newer.older = piece.newer, piece.older
