"""Runs of blocks with one identity: what is cached of a chain, and its parts in the free queue (docs/glossary.md)."""

from __future__ import annotations

from kvsim.acyclic import mypyc_attr


class Copy:
    """One cached block of a position that may have several: requests that computed the same block have one each."""

    __slots__ = ("holders", "position", "segment", "tail")

    def __init__(self, tail: Tail, position: int, holders: int) -> None:
        self.tail, self.position, self.holders = tail, position, holders
        self.segment: Segment | None = None
        """Where it is in the free queue."""


class Tail:
    """A chain's blocks from ``base`` on, one by one: kept once a block of the chain has been computed twice."""

    __slots__ = ("base", "chain", "copies", "originals")

    def __init__(self, chain: Chain, base: int) -> None:
        self.chain = chain
        self.base = base
        self.copies: list[list[Copy]] = []
        """By position from ``base``: the resident copies, oldest first; the first serves lookups."""
        self.originals: list[Copy] = []
        """By position from ``base``: blocks of the run before; holders of more of it than ``base`` hold these."""

    def leading(self, limit: int) -> int:
        """How many positions from ``base`` on, at most ``limit``, have a copy each."""
        found = 0
        for copies in self.copies:
            if found >= limit or not copies:
                break
            found += 1
        return found

    def add(self, position: int) -> Copy:
        """A new copy, the youngest of its position, held once."""
        copy, at = Copy(self, position, 1), position - self.base
        while len(self.copies) <= at:
            self.copies.append([])
        self.copies[at].append(copy)
        return copy


class Chain:
    """The cached blocks of one chain: ``[0, cached)`` are resident, ``[0, held)`` of them referenced.

    Where ``tail`` is set, this is so of the blocks before ``tail.base`` alone, and the tail keeps the others.
    """

    __slots__ = ("cached", "count", "free", "held", "key", "lower", "tail")

    def __init__(self, key: int) -> None:
        self.key = key
        self.cached = 0
        self.held = 0
        self.count = 0
        """Holders of exactly ``held`` blocks."""
        self.lower: dict[int, int] | None = None
        """Holders of fewer blocks: blocks -> holders."""
        self.free: Segment | None = None
        """Parts of ``[held, cached)`` in the free queue: the youngest, which ends where none is free, and by it the
        ``deeper`` ones."""
        self.tail: Tail | None = None

    @property
    def resident(self) -> int:
        """How many of its first blocks a lookup finds."""
        tail, cached = self.tail, self.cached
        if tail is None or cached < tail.base:
            return cached
        return cached + tail.leading(len(tail.copies))

    def split(self, base: int) -> Tail:
        """Keep the blocks from ``base`` on one by one; returns the tail, which may have begun there already."""
        tail = self.tail
        if tail is None:
            tail = self.tail = Tail(self, max(base, self.cached))
        if base >= tail.base:
            return tail
        old_base, tail.base = tail.base, base
        originals = [Copy(tail, position, self._holders_of(position)) for position in range(base, old_base)]
        resident = [[copy] if copy.position < self.cached else [] for copy in originals]
        tail.originals = originals + tail.originals
        tail.copies = resident + tail.copies
        self._split_segments(base, originals)
        self._split_holders(base)
        self.cached = min(self.cached, base)
        return tail

    def segments(self) -> list[Segment]:
        """Parts of the chain that are in the free queue, the youngest first."""
        found, segment = [], self.free
        while segment is not None:
            found.append(segment)
            segment = segment.deeper
        return found

    def forget_deepest(self) -> None:
        """The deepest of its segments is not in the free queue any more."""
        segment = self.free
        assert segment is not None
        if segment.deeper is None:
            self.free = None
            return
        while segment.deeper.deeper is not None:
            segment = segment.deeper
        segment.deeper = None

    def _holders_of(self, position: int) -> int:
        holders = self.count if self.held > position else 0
        if self.lower is not None:
            holders += sum(count for size, count in self.lower.items() if size > position)
        return holders

    def _split_segments(self, base: int, originals: list[Copy]) -> None:
        for segment in self.segments():
            if segment.high > base:
                first = max(segment.low, base)
                parts = originals[first - base : segment.high - base]
                segment.high = first
                segment.copies = parts if segment.copies is None else parts + segment.copies
                segment.live += len(parts)
                for copy in parts:
                    copy.segment = segment
        left, self.free = self.segments(), None
        for segment in reversed(left):
            if segment.high > segment.low:
                segment.deeper, self.free = self.free, segment

    def _split_holders(self, base: int) -> None:
        if self.held <= base:
            return
        count, lower = self.count, self.lower
        self.lower = None
        if lower is not None:
            count += sum(holders for size, holders in lower.items() if size >= base)
            self.lower = {size: holders for size, holders in lower.items() if size < base}
        self.held, self.count = base, count if base else 0


class Segment:
    """Blocks ``[low, high)`` of a chain in the free queue, the deepest first; without a chain nobody can hit them.

    One that was taken out of the queue stays in it with ``low == high`` until it surfaces. ``copies``, before them in
    the queue, the last first, are blocks kept one by one; ``live`` of them are still free.
    """

    __slots__ = ("chain", "copies", "deeper", "high", "is_blank", "live", "low")

    def __init__(self, chain: Chain | None, low: int, high: int) -> None:
        self.chain, self.low, self.high = chain, low, high
        self.deeper: Segment | None = None
        """The next segment of the same chain, which has been free for longer."""
        self.is_blank = False
        """Whether the blocks cache nothing."""
        self.copies: list[Copy] | None = None
        self.live = 0

    @property
    def size(self) -> int:
        return self.high - self.low + self.live


@mypyc_attr(acyclic=True)
class Hold:
    """What a table holds of one chain: its first ``size`` blocks as a run, and ``copies`` of those that follow."""

    __slots__ = ("chain", "copies", "size")

    def __init__(self, chain: Chain, size: int) -> None:
        self.chain, self.size = chain, size
        self.copies: list[Copy] | None = None


class Blocks:
    """Blocks ``[low, high)`` of a chain: those of its run, or one that is kept as a ``copy``."""

    __slots__ = ("copy", "high", "is_original", "key", "low")

    def __init__(self, key: int, low: int, high: int, copy: Copy | None) -> None:
        """``key``: of the chain."""
        self.key, self.low, self.high, self.copy = key, low, high, copy
        self.is_original = False
        """The copy is the block of the run before."""
        if copy is not None:
            place = low - copy.tail.base
            self.is_original = place < len(copy.tail.originals) and copy.tail.originals[place] is copy

    def among(self, low: int, high: int) -> Blocks:
        """The blocks among ``[low, high)``, of which there may be none."""
        return Blocks(self.key, max(self.low, low), min(self.high, high), self.copy)

    def meets(self, later: Blocks) -> bool:
        """Whether any of these is among those noted later."""
        if self.key != later.key or max(self.low, later.low) >= min(self.high, later.high):
            return False
        return self.copy is later.copy or (self.copy is None and later.is_original)
