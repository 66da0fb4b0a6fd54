"""The block pool of one engine, with hash-chained prefix caching by vLLM's rules, kept as runs.

A prompt is a path of chains (see ``kvsim.workload.request``): the cached blocks of a chain are always its first
``cached`` ones, because a block is released after all that follow it and the free queue evicts oldest first. So a chain
is three numbers, and the free queue holds *segments* of chains instead of single blocks; every count equals the one of
a pool that keeps each block on its own. Where two requests computed the same block, the chain's blocks from there on
are indeed kept on their own, as the oldest copy serves and the next one takes over when it is evicted.
"""

from __future__ import annotations

from collections.abc import Callable

from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.block_table import OPEN_END, BlockTable, Path, private_from
from kvsim.sim.engine.chain import Blocks, Chain, Copy, Hold, Segment
from kvsim.sim.engine.free_queue import FreeQueue

__all__ = ["OPEN_END", "BlockTable", "PagedPool", "Path", "private_from"]


class PagedPool(BlockPool):
    """``num_blocks`` KV blocks of one engine, in vLLM's free queue. Blank ones are at its head, where they all are
    ``blank_first``; else those that were never used.
    """

    __slots__ = ("_blank_first", "_chains", "_queue")

    def __init__(
        self,
        num_blocks: int,
        *,
        enable_prefix_caching: bool = True,
        on_evict: Callable[[int, int], None] | None = None,
        blank_first: bool = True,
    ) -> None:
        """``on_evict(chain, cached)`` is told when a shared chain shrinks to ``cached`` blocks; with a negative chain,
        that so many blocks went which nobody else can ask for.
        """
        super().__init__(num_blocks, enable_prefix_caching, on_evict)
        self._blank_first = blank_first
        self._chains: dict[int, Chain] = {}
        self._queue = FreeQueue()

    def cached_blocks(self, chain: int) -> int:
        """How many of the chain's first blocks are resident."""
        found = self._chains.get(chain)
        return found.resident if found else 0

    def may_cache(self, chain: int) -> bool:
        return chain in self._chains

    def match(self, path: Path, limit: int) -> tuple[int, int]:
        """The longest cached head of ``path``, at most ``limit`` blocks: ``(hits, of them in the free queue)``."""
        hits = evictable = 0
        chains = self._chains
        for key, first, end in path:
            chain = chains.get(key)
            if chain is None or first >= limit:
                break
            wanted = (end if end < limit else limit) - first
            found = chain.cached
            if found > wanted:
                found = wanted
            if found > chain.held:
                evictable += found - chain.held
            tail = chain.tail
            if tail is not None and found == tail.base:
                leading = tail.leading(wanted - found)
                evictable += sum(not copies[0].holders for copies in tail.copies[:leading])
                found += leading
            hits += found
            if first + found < end:
                break
        return hits, evictable

    def acquire(self, table: BlockTable, hits: int) -> None:
        """Give a fresh table its first ``hits`` blocks, which ``match`` found."""
        for index, (key, first, end) in enumerate(table.path):
            if first >= hits:
                break
            table.holds.append(self._hold(self._chains[key], min(end, hits) - first))
            table.entry = index
        table.hashed = hits
        if hits > table.private_from:  # of a request that was sent or preempted before, and left these behind
            table.private_from = OPEN_END
        if self.given is not None:
            self.given += self.blocks_of(table)

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
            segment = queue.first()
            if segment.live:
                count -= self._evict_copies(segment, count)
                continue
            size = segment.high - segment.low
            if size > count:
                segment.high -= count
                if segment.chain is not None:
                    self._shrink(segment.chain, segment.high)
                else:
                    self._take_private(segment, count)
                return
            queue.drop_first()
            if size:
                count -= size
                if segment.chain is not None:
                    segment.chain.forget_deepest()
                    self._shrink(segment.chain, segment.low)
                else:
                    self._take_private(segment, size)

    def _take_private(self, segment: Segment, count: int) -> None:
        """Take note of blocks taken that nobody could hit."""
        if segment.is_blank:
            self.evicted_blocks -= count
        elif self._on_evict is not None:
            self._on_evict(-1, count)

    def extend(self, table: BlockTable, full_blocks: int) -> None:
        """Hash the sequence's first ``full_blocks`` blocks, as vLLM does when they are scheduled.

        A block whose content is cached already is the younger copy, which serves once the older ones are evicted.
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
        """Free all the table holds, tail first: hashed blocks to the queue's tail, others as ``blank_first`` says."""
        loose = table.loose
        if loose and self._blank_first:
            self.num_free += loose
            self.num_blank += loose
        elif loose:
            self.num_free += loose
            self._queue.add_strange(loose, is_blank=True)
        if table.hashed > table.private_from:
            self.num_free += table.hashed - table.private_from
            self._queue.add_strange(table.hashed - table.private_from, is_blank=False)
        holds = table.holds
        if holds:
            for hold in reversed(holds):
                self._let_go(hold)
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

    def blocks_of(self, table: BlockTable) -> list[Blocks]:
        found: list[Blocks] = []
        for hold in table.holds:
            chain, size, copies = hold.chain, hold.size, hold.copies or []
            tail = chain.tail
            if tail is not None and size > tail.base:
                copies = tail.originals[: size - tail.base] + copies
                size = tail.base
            found.append(Blocks(chain.key, 0, size, None))
            found += [Blocks(chain.key, copy.position, copy.position + 1, copy) for copy in copies]
        return found

    def insert(self, path: Path, entry: int, first: int, end: int) -> int:
        """Cache blocks ``[first, end)`` of the path's ``entry`` that came from elsewhere, unreferenced.

        They are taken only if they continue what is cached and fit in the free queue; returns how many were.
        """
        key, start, _ = path[entry]
        chain = self._chains.get(key)
        cached = chain.resident if chain else 0
        count = end - start - cached
        if first - start > cached or count <= 0 or not self._parents_cached(path, entry):
            return 0
        hold = None if chain is None else self._hold(chain, cached)
        inserted = count if self.enable_prefix_caching and self.num_free >= count else 0
        if inserted:
            self.take(inserted)
            if hold is None:
                hold = Hold(self._chain(key), 0)
            self._lengthen(hold, cached, cached + inserted)
        if hold is not None:
            self._let_go(hold)
        return inserted

    def check_integrity(self) -> None:
        """Assert that free blocks, segments and chains agree; for tests and the end of a run."""
        segments = self._queue.blocks()
        assert self.num_free == self.num_blank + segments, (self.num_free, self.num_blank, segments)
        assert 0 <= self.num_free <= self.num_blocks, (self.num_free, self.num_blocks)
        for chain in self._chains.values():
            parts = [(segment.low, segment.high) for segment in chain.segments()]
            bounds = [chain.held, *(high for _, high in parts)]
            assert [low for low, _ in parts] == bounds[:-1], (chain.key, chain.held, parts)
            assert bounds[-1] == chain.cached, (chain.key, chain.cached, parts)
            if chain.tail is not None:
                assert chain.cached <= chain.tail.base and chain.tail.copies, chain.key
                for copy in (copy for copies in chain.tail.copies for copy in copies):
                    assert (copy.segment is None) == (copy.holders > 0), (chain.key, copy.position)

    def _parents_cached(self, path: Path, entry: int) -> bool:
        return all(self.cached_blocks(key) >= end - first for key, first, end in path[:entry])

    def _chain(self, key: int) -> Chain:
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = Chain(key)
        return chain

    def _extend_entry(self, table: BlockTable, key: int, position: int, size: int) -> None:
        """Hash blocks ``[position, size)`` of a chain for a table that has those before."""
        if not position:
            table.holds.append(Hold(self._chain(key), 0))
        self._lengthen(table.holds[-1], position, size)
        table.loose -= size - position
        table.hashed += size - position

    def _lengthen(self, hold: Hold, position: int, size: int) -> None:
        """New blocks ``[position, size)`` of its chain, in use by a holder of those before."""
        chain = hold.chain
        if hold.copies is None and chain.tail is None and chain.cached == position:
            chain.cached = hold.size = size
            self._reference(chain, size)
            if position:
                self._drop(chain, position)
            return
        tail = chain.split(position)
        if hold.copies is None:
            hold.copies = []
        for block in range(position, size):
            hold.copies.append(tail.add(block))

    def _hold(self, chain: Chain, size: int) -> Hold:
        """Hold the chain's first ``size`` blocks, the oldest copy of each; they are all resident."""
        tail = chain.tail
        if tail is None or size <= tail.base:
            self._reference(chain, size)
            return Hold(chain, size)
        if tail.base:
            self._reference(chain, tail.base)
        hold = Hold(chain, tail.base)
        hold.copies = []
        for copies in tail.copies[: size - tail.base]:
            copy = copies[0]
            copy.holders += 1
            hold.copies.append(copy)
            segment = copy.segment
            if segment is not None:
                copy.segment = None
                self.num_free -= 1
                segment.live -= 1
        return hold

    def _let_go(self, hold: Hold) -> None:
        """Blocks that nobody else holds go to the free queue's tail, the deepest first."""
        size, tail, copies = hold.size, hold.chain.tail, hold.copies
        if tail is not None and size > tail.base:
            originals = tail.originals[: size - tail.base]
            copies = originals + copies if copies else originals
            size = tail.base
        if copies:
            self._let_copies_go(copies)
        if size:
            self._drop(hold.chain, size)

    def _let_copies_go(self, copies: list[Copy]) -> None:
        freed: list[Copy] = []
        for copy in copies:
            copy.holders -= 1
            if not copy.holders:
                freed.append(copy)
        if not freed:
            return
        segment = Segment(None, 0, 0)
        segment.copies, segment.live = freed, len(freed)
        for copy in freed:
            copy.segment = segment
        self.num_free += segment.size
        self._queue.add(segment)

    def _evict_copies(self, segment: Segment, count: int) -> int:
        """Forget the deepest of a segment's copies, at most ``count``; returns how many."""
        evicted, copies = 0, segment.copies
        assert copies is not None
        while segment.live and evicted < count:
            copy = copies.pop()
            if copy.segment is segment:
                copy.segment = None
                segment.live -= 1
                evicted += 1
                self._forget(copy)
        return evicted

    def _forget(self, copy: Copy) -> None:
        tail = copy.tail
        chain, left = tail.chain, tail.copies[copy.position - tail.base]
        if self.given is not None:
            self.given.append(Blocks(chain.key, copy.position, copy.position + 1, copy))
        left.remove(copy)
        if left:
            return
        while tail.copies and not tail.copies[-1]:
            tail.copies.pop()
        if not tail.copies:
            chain.tail = None
        self._shrunk(chain, copy.position, 1)

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
        segment = chain.free
        while segment is not None and segment.low < size:
            if segment.high > size:
                self.num_free -= size - segment.low
                segment.low = size
                return
            self.num_free -= segment.high - segment.low
            segment.low = segment.high
            chain.free, segment.deeper = segment.deeper, None
            segment = chain.free

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
        segment.deeper, chain.free = chain.free, segment
        self.num_free += segment.size
        self._queue.add(segment)

    def _shrink(self, chain: Chain, cached: int) -> None:
        if self.given is not None:
            self.given.append(Blocks(chain.key, cached, chain.cached, None))
        gone, chain.cached = chain.cached - cached, cached
        self._shrunk(chain, cached, gone)

    def _shrunk(self, chain: Chain, resident: int, gone: int) -> None:
        """Only ``resident`` blocks of the chain can be found any more, ``gone`` fewer."""
        if not chain.cached and chain.tail is None:
            del self._chains[chain.key]
        if self._on_evict is not None:
            self._on_evict(max(chain.key, -1), resident if chain.key >= 0 else gone)
