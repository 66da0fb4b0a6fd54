"""The block pool of one engine, with hash-chained prefix caching by vLLM's rules, kept as runs.

A prompt is a path of chains (see ``kvsim.workload.request``): the cached blocks of a chain are always its first
``cached`` ones, because a block is released after all that follow it and the free queue evicts oldest first. So a chain
is three numbers, and the free queue holds *segments* of chains instead of single blocks; every count equals the one of
a pool that keeps each block on its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kvsim.cache.chain import Chain, Segment
from kvsim.cache.pool import BlockPool
from kvsim.cache.table import OPEN_END, BlockTable, Path, private_from

__all__ = ["OPEN_END", "BlockTable", "Chain", "PagedPool", "Path", "Segment", "private_from"]


class PagedPool(BlockPool):
    """``num_blocks`` KV blocks of one engine, in vLLM's free queue; blank ones are always at its head."""

    __slots__ = ("_chains", "_num_segments", "_queue")

    def __init__(
        self,
        num_blocks: int,
        *,
        enable_prefix_caching: bool = True,
        on_evict: Callable[[int, int], None] | None = None,
    ) -> None:
        """``on_evict(chain, cached)`` is told when a shared chain shrinks to ``cached`` blocks."""
        super().__init__(num_blocks, enable_prefix_caching, on_evict)
        self._chains: dict[int, Chain] = {}
        self._queue: deque[Segment] = deque()
        self._num_segments = 0
        """Segments in the queue that are not empty."""

    def cached_blocks(self, chain: int) -> int:
        """How many of the chain's first blocks are resident."""
        found = self._chains.get(chain)
        return found.cached if found else 0

    def match(self, path: Path, limit: int) -> tuple[int, int]:
        """The longest cached head of ``path``, at most ``limit`` blocks: ``(hits, of them in the free queue)``."""
        hits = evictable = 0
        chains = self._chains
        for key, first, end in path:
            chain = chains.get(key)
            if chain is None or first >= limit:
                break
            found = chain.cached
            if found > limit - first:
                found = limit - first
            if found > end - first:
                found = end - first
            hits += found
            if found > chain.held:
                evictable += found - chain.held
            if first + found < end:
                break
        return hits, evictable

    def acquire(self, table: BlockTable, hits: int) -> None:
        """Give a fresh table its first ``hits`` blocks, which ``match`` found."""
        for index, (key, first, end) in enumerate(table.path):
            if first >= hits:
                break
            chain = self._chains[key]
            size = min(end, hits) - first
            self._reference(chain, size)
            table.holds.append((chain, size))
            table.entry = index
        table.hashed = hits

    def take(self, count: int) -> None:
        """Pop ``count`` blocks off the free queue, forgetting what they cached. There must be as many free."""
        self.num_free -= count
        blank = self.num_blank
        if count <= blank:
            self.num_blank = blank - count
            return
        self.num_blank = 0
        count -= blank
        self.evicted_blocks += count
        queue = self._queue
        while count:
            segment = queue[0]
            size = segment.high - segment.low
            if size > count:
                segment.high -= count
                if segment.chain is not None:
                    self._shrink(segment.chain, segment.high)
                return
            queue.popleft()
            if size:
                count -= size
                self._num_segments -= 1
                if segment.chain is not None:
                    del segment.chain.free[0]
                    self._shrink(segment.chain, segment.low)

    def extend(self, table: BlockTable, full_blocks: int) -> None:
        """Hash the sequence's first ``full_blocks`` blocks, as vLLM does when they are scheduled.

        A block whose content is cached already is the younger duplicate: it serves no lookup, but keeps its place in
        the order of release.
        """
        if not self.enable_prefix_caching or full_blocks <= table.hashed:
            return
        shared_blocks = table.private_from
        if full_blocks <= shared_blocks:
            self._extend_shared(table, full_blocks)
            return
        if table.hashed < shared_blocks:
            self._extend_shared(table, shared_blocks)
        table.loose -= full_blocks - table.hashed
        table.hashed = full_blocks

    def _extend_shared(self, table: BlockTable, full_blocks: int) -> None:
        path = table.path
        while table.hashed < full_blocks:
            key, first, end = path[table.entry]
            if table.hashed >= end:
                table.entry += 1
                continue
            self._extend_entry(table, key, table.hashed - first, min(end, full_blocks) - first)

    def release(self, table: BlockTable) -> None:
        """Free all the table holds, tail first: hashed blocks to the queue's tail, others to its front."""
        loose = table.loose
        if loose:
            self.num_free += loose
            self.num_blank += loose
        if table.hashed > table.private_from:
            self._enqueue(Segment(None, 0, table.hashed - table.private_from))
        holds = table.holds
        if holds:
            for chain, size in reversed(holds):
                if chain is None:
                    self._enqueue(Segment(None, 0, size))
                else:
                    self._drop(chain, size)
            holds.clear()
        table.entry = table.hashed = table.loose = 0

    def release_to_resume(self, table: BlockTable) -> None:
        """Free all the table holds; the sequence will come back and may find its private blocks again."""
        hashed, private_from = table.hashed, table.private_from
        if hashed > private_from:
            table.loose += hashed - private_from
            table.hashed = private_from
            table.private_from = OPEN_END
            self._extend_shared(table, hashed)
        table.private_from = OPEN_END
        self.release(table)

    def insert(self, path: Path, entry: int, first: int, end: int) -> int:
        """Cache blocks ``[first, end)`` of the path's ``entry`` that came from elsewhere, unreferenced.

        They are taken only if they continue what is cached and fit in the free queue; returns how many were.
        """
        key, start, _ = path[entry]
        chain = self._chains.get(key)
        cached = chain.cached if chain else 0
        count = end - start - cached
        if first - start > cached or count <= 0 or not self._parents_cached(path, entry):
            return 0
        if chain is not None:
            self._reference(chain, cached)
        if self.num_free < count or not self.enable_prefix_caching:
            inserted = 0
        else:
            self.take(inserted := count)
            if chain is None:
                chain = self._chains[key] = Chain(key)
            chain.cached = cached + count
            self._reference(chain, cached + count)
            self._drop(chain, cached + count)
        if cached and chain is not None:
            self._drop(chain, cached)
        return inserted

    def check_integrity(self) -> None:
        """Assert that free blocks, segments and chains agree; for tests and the end of a run."""
        segments = sum(segment.high - segment.low for segment in self._queue)
        assert self._num_segments == sum(segment.high > segment.low for segment in self._queue)
        assert self.num_free == self.num_blank + segments, (self.num_free, self.num_blank, segments)
        assert 0 <= self.num_free <= self.num_blocks, (self.num_free, self.num_blocks)
        for chain in self._chains.values():
            parts = [(segment.low, segment.high) for segment in reversed(chain.free)]
            bounds = [chain.held, *(high for _, high in parts)]
            assert [low for low, _ in parts] == bounds[:-1], (chain.key, chain.held, parts)
            assert bounds[-1] == chain.cached, (chain.key, chain.cached, parts)

    def _parents_cached(self, path: Path, entry: int) -> bool:
        return all(self.cached_blocks(key) >= end - first for key, first, end in path[:entry])

    def _extend_entry(self, table: BlockTable, key: int, position: int, size: int) -> None:
        """Hash blocks ``[position, size)`` of a chain for a table that has those before."""
        holds = table.holds
        duplicates = holds[-1][1] if position and holds[-1][0] is None else 0
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = Chain(key)
        elif chain.cached > position:
            size = min(size, chain.cached)
            if duplicates:
                holds.pop()
            holds.append((None, duplicates + size - position))
            table.loose -= size - position
            table.hashed += size - position
            return
        if duplicates:
            self._replace_older(table, chain, position - duplicates)
        chain.cached = size
        self._reference(chain, size)
        if position > duplicates:
            self._drop(chain, position - duplicates)
            holds[-1] = (chain, size)
        else:
            holds.append((chain, size))
        table.loose -= size - position
        table.hashed += size - position

    def _replace_older(self, table: BlockTable, chain: Chain, held: int) -> None:
        """The table, which holds ``held`` blocks of the chain and duplicates from there on, is about to lengthen it.

        Its duplicates become the chain's blocks; free older copies stay in the queue, but serve nobody any more. Where
        another table holds the older copy, that one stays the chain's.
        """
        for segment in chain.free:
            segment.chain = None
        chain.free.clear()
        table.holds.pop()
        if chain.held > held:
            table.holds.insert(len(table.holds) - (held > 0), (None, chain.held - held))

    def _reference(self, chain: Chain, size: int) -> None:
        """Add a holder of the chain's first ``size`` blocks, taking those it is first to hold out of the free queue."""
        held = chain.held
        if size == held:
            chain.count += 1
            return
        if size < held:
            if chain.lower is None:
                chain.lower = {}
            chain.lower[size] = chain.lower.get(size, 0) + 1
            return
        if chain.count:
            if chain.lower is None:
                chain.lower = {}
            chain.lower[held] = chain.count
        chain.held, chain.count = size, 1
        free = chain.free
        while free and free[-1].low < size:
            segment = free[-1]
            if segment.high > size:
                self.num_free -= size - segment.low
                segment.low = size
                return
            self.num_free -= segment.high - segment.low
            segment.low = segment.high
            self._num_segments -= 1
            free.pop()

    def _drop(self, chain: Chain, size: int) -> None:
        """Take a holder of ``size`` blocks away; blocks nobody else holds go to the free queue's tail."""
        lower = chain.lower
        if size != chain.held:
            assert lower is not None
            left = lower[size] - 1
            if left:
                lower[size] = left
            else:
                del lower[size]
            return
        chain.count -= 1
        if chain.count:
            return
        if lower:
            chain.held = max(lower)
            chain.count = lower.pop(chain.held)
        else:
            chain.held = 0
        segment = Segment(chain, chain.held, size)
        chain.free.append(segment)
        self._enqueue(segment)

    def _enqueue(self, segment: Segment) -> None:
        queue = self._queue
        queue.append(segment)
        self.num_free += segment.high - segment.low
        self._num_segments += 1
        if len(queue) > 4 * self._num_segments + 64:
            self._queue = deque(s for s in queue if s.high > s.low)

    def _shrink(self, chain: Chain, cached: int) -> None:
        chain.cached = cached
        if not cached:
            del self._chains[chain.key]
        if self._on_evict is not None and chain.key >= 0:
            self._on_evict(chain.key, cached)
