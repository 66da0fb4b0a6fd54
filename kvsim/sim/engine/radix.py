"""Prefixes in a radix tree, as SGLang keeps them (Zheng et al. 2024, "SGLang", section 3).

A prompt, once computed, is a path from the root; what two prompts share is one run of blocks. A sequence holds the node
its head ends in, and with it all above. Blocks that nobody holds stay until room is needed: then the leaf that was
touched longest ago goes, and only leaves go, so that what is cached is always whole heads.

SGLang's rules that are followed: a chunk enters the tree when its step has run, an answer when it is complete, and not
while it is generated; what another sequence has brought into the tree meanwhile is freed and the tree's copy held
instead. Touched is what a sequence begins with, enters or leaves. A block is a page. Not followed: SGLang frees a leaf
whole; here only as much of its end goes as room is needed, so that results do not depend on where nodes happened to be
split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.block_table import BlockTable, Path
from kvsim.sim.engine.radix_node import RadixNode


class RadixPool(BlockPool):
    """``num_blocks`` KV blocks of one engine, the cached ones in a radix tree."""

    __slots__ = ("_clock", "_computed", "_leaves", "_serial", "root")

    hashes_when_scheduled = False

    def __init__(
        self,
        num_blocks: int,
        *,
        enable_prefix_caching: bool = True,
        on_evict: Callable[[int, int], None] | None = None,
    ) -> None:
        """``on_evict(chain, cached)`` is told when a shared chain shrinks to ``cached`` blocks."""
        super().__init__(num_blocks, enable_prefix_caching, on_evict)
        self.root = RadixNode(None, [], 0)
        self._clock = 0
        """Operations so far: the order of touches."""
        self._computed: dict[BlockTable, int] = {}
        """Tables with full blocks that will enter the tree when the step has run."""
        self._leaves: list[tuple[int, int, RadixNode]] = []
        """A heap of leaves that nobody holds, by their stamp; entries that are no longer true are skipped."""
        self._serial = 0

    def begin_step(self) -> None:
        if self._computed:
            computed, self._computed = self._computed, {}
            for table, full_blocks in computed.items():
                self._enter(table, full_blocks)

    def match(self, path: Path, limit: int) -> tuple[int, int]:
        hits = free = 0
        for node, size in self._walk(path, limit):
            hits += size
            if not node.refs:
                free += size
        return hits, free

    def acquire(self, table: BlockTable, hits: int) -> None:
        self._clock += 1
        table.node = self._touched(table.path, hits)
        table.hashed = hits
        self._hold(table.node, self.root)

    def take(self, count: int) -> None:
        if count > self.num_blank:
            self._evict(count - self.num_blank)
        self.num_blank -= count
        self.num_free -= count

    def extend(self, table: BlockTable, full_blocks: int) -> None:
        if self.enable_prefix_caching and full_blocks > table.hashed:
            self._computed[table] = full_blocks

    def enter(self, table: BlockTable, full_blocks: int) -> None:
        if self.enable_prefix_caching and full_blocks > table.hashed:
            self._enter(table, full_blocks)

    def release(self, table: BlockTable) -> None:
        full_blocks = self._computed.pop(table, 0)
        if full_blocks:
            self._enter(table, full_blocks)
        self.num_blank += table.loose
        self.num_free += table.loose
        if table.node is not None:
            self._clock += 1
            self._touched(table.path, table.hashed)
            self._let_go(table.node)
        table.node = None
        table.hashed = table.loose = 0

    def release_to_resume(self, table: BlockTable) -> None:
        self.release(table)

    def insert(self, path: Path, entry: int, first: int, end: int) -> int:
        """Cache blocks from elsewhere if they continue what is cached and fit; returns how many were taken."""
        cached, _ = self.match(path, end)
        count = end - cached
        if cached < first or count <= 0 or not self.enable_prefix_caching:
            return 0
        carrier = BlockTable(path)
        self.acquire(carrier, cached)
        inserted = 0
        if self.num_free >= count:
            self.take(count)
            carrier.loose = inserted = count
            self._enter(carrier, end)
        self.release(carrier)
        return inserted

    def check_integrity(self) -> None:
        free = held = 0
        nodes = [self.root]
        for node in nodes:
            nodes.extend(node.children.values())
            assert node is self.root or node.refs >= sum(child.refs for child in node.children.values())
            for key, child in node.children.items():
                assert child.parent is node and child.key() == key and child.stamp <= node.stamp
                assert child.size == sum(high - low for _, low, high in child.edge) > 0
            if node.refs:
                held += node.size
            else:
                free += node.size
        assert self.num_free == self.num_blank + free, (self.num_free, self.num_blank, free)
        assert self.num_blank >= 0 and self.num_free + held <= self.num_blocks, (self.num_free, held)

    def _walk(self, path: Path, limit: int) -> Iterator[tuple[RadixNode, int]]:
        """The nodes along ``path`` and how many of their blocks lie on it, at most ``limit`` in all."""
        node, index, place = self.root, 0, 0
        while limit > 0 and index < len(path):
            chain, first, end = path[index]
            if place == end - first:
                index, place = index + 1, 0
                continue
            child = node.children.get((chain, place))
            if child is None:
                return
            node, size = child, 0
            for chain, low, high in node.edge:
                if place == path[index][2] - path[index][1]:
                    index, place = index + 1, 0
                if index == len(path) or path[index][0] != chain or place != low:
                    break
                room = path[index][2] - path[index][1]
                step = min(high, room) - low
                size += step
                place += step
                if low + step < high:
                    break
            size = min(size, limit)
            limit -= size
            yield node, size
            if size < node.size:
                return

    def _touched(self, path: Path, size: int) -> RadixNode:
        """The node in which the first ``size`` blocks of ``path`` end, split if need be; all above are touched."""
        node = self.root
        self.root.stamp = self._clock
        for node, found in list(self._walk(path, size)):
            if found < node.size:
                node = node.split(found)
            node.stamp = self._clock
        return node

    def _enter(self, table: BlockTable, full_blocks: int) -> None:
        """The table's blocks up to ``full_blocks`` are computed: those that the tree lacks go in, others are freed."""
        self._clock += 1
        path = table.path
        known = sum(size for _, size in self._walk(path, full_blocks))
        node = self._touched(path, known)
        if known < full_blocks:
            child = RadixNode(node, _segments(path, known, full_blocks), self._clock)
            node.children[child.key()] = child
            node = child
        duplicates = known - table.hashed
        self.num_blank += duplicates
        self.num_free += duplicates
        table.loose -= full_blocks - table.hashed
        self._hold(node, self.root if table.node is None else table.node)
        self.num_free += full_blocks - known
        table.node, table.hashed = node, full_blocks

    def _hold(self, node: RadixNode, above: RadixNode) -> None:
        """One table more holds ``node`` and what lies between it and ``above``, which it holds already."""
        while node is not above and node.parent is not None:
            if not node.refs:
                self.num_free -= node.size
            node.refs += 1
            node = node.parent

    def _let_go(self, node: RadixNode) -> None:
        lowest = node
        while node.parent is not None:
            node.refs -= 1
            if not node.refs:
                self.num_free += node.size
            node = node.parent
        self._merge(lowest)

    def _merge(self, node: RadixNode) -> None:
        """Join nodes that nobody tells apart any more, from ``node`` upwards; a leaf may be evicted from now on."""
        while node.parent is not None and node.parent.parent is not None:
            parent = node.parent
            if node.refs or parent.refs or len(parent.children) > 1 or parent.stamp != node.stamp:
                break
            node.swallow_parent()
        self._may_go(node)

    def _may_go(self, node: RadixNode) -> None:
        if not node.children and not node.refs and node.parent is not None:
            self._serial += 1
            heappush(self._leaves, (node.stamp, self._serial, node))

    def _evict(self, count: int) -> None:
        """Free ``count`` blocks of leaves, the longest untouched first, from their ends."""
        self.evicted_blocks += count
        self.num_blank += count
        while count:
            stamp, _, node = self._leaves[0]
            parent = node.parent
            if node.children or node.refs or node.stamp != stamp or parent is None:
                heappop(self._leaves)
                continue
            if node.size > count:
                self._shorten(node, count)
                return
            heappop(self._leaves)
            count -= node.size
            self._shorten(node, node.size)
            node.parent = None
            self._may_go(parent)

    def _shorten(self, node: RadixNode, count: int) -> None:
        """Take ``count`` blocks off a leaf's end, or all of it out of the tree."""
        if count == node.size:
            assert node.parent is not None
            del node.parent.children[node.key()]
        node.size -= count
        while count:
            chain, low, high = node.edge.pop()
            cut = max(low, high - count)
            count -= high - cut
            if cut > low:
                node.edge.append((chain, low, cut))
            if self._on_evict is not None and chain >= 0:
                self._on_evict(chain, cut)


def _segments(path: Path, start: int, stop: int) -> list[tuple[int, int, int]]:
    """Blocks ``[start, stop)`` of a path as segments of its chains."""
    found = []
    for chain, first, end in path:
        low, high = max(start, first), min(stop, end)
        if high > low:
            found.append((chain, low - first, high - first))
    return found
